# Warnings are errors: the host compiler's, nvcc's, and those of ptxas.
function(allfocus_warnings target)
    set(host -Wall -Wextra -Werror)
    list(JOIN host "," through_nvcc)
    target_compile_options(${target} PRIVATE
        $<$<COMPILE_LANGUAGE:CXX>:${host}>
        "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=${through_nvcc} -Werror=all-warnings>"
        "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas=--warning-as-error>"
        $<$<COMPILE_LANGUAGE:CUDA>:-Wno-deprecated-gpu-targets>)  # nvcc 12.9 says 75 will go
endfunction()
