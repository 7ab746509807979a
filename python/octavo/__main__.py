from octavo import main

main()
