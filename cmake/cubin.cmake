# cmake -D NVCC=.. -D SOURCE=.. -D CUBIN=.. -D INCLUDE=.. -P cubin.cmake: compiles one .cu for Hopper, and fails on what
# makes a kernel slow in silence: registers spilled, a stack frame, wgmma serialized or setmaxnreg ignored (C75xx).
execute_process(
  COMMAND ${NVCC} -std=c++17 -O3 -gencode arch=compute_90a,code=sm_90a -cubin -I${INCLUDE} -Werror all-warnings
          -Xptxas -v,--warn-on-spills,--warn-on-local-memory-usage -MD -MF ${CUBIN}.d -o ${CUBIN} ${SOURCE}
  RESULT_VARIABLE result OUTPUT_VARIABLE log ERROR_VARIABLE log)
file(WRITE ${CUBIN}.log "${log}")
string(REGEX MATCHALL "[^\n]*(C75[0-9][0-9]|[1-9][0-9]* bytes (stack frame|spill|cumulative stack))[^\n]*" bad "${log}")
if(result OR bad)
  file(REMOVE ${CUBIN})
  string(REPLACE ";" "\n" bad "${bad}")
  if(result)
    set(bad "${log}")
  endif()
  message(FATAL_ERROR "${SOURCE}:\n${bad}")
endif()
