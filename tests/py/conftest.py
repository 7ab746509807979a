"""For pytest: torch/ is its. The files of this folder are programs that `make test` runs."""
collect_ignore = ["test_cli.py", "test_model.py", "test_tokenizer.py"]
