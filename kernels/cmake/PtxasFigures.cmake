# What ptxas says of each kernel (registers, spills, shared memory), summed up on the screen and kept
# whole in ptxas.txt beside the library. A compiler launcher does it: files compile side by side.
function(allfocus_ptxas_figures target)
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/ptxas)
    set(script ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/ptxas_log.cmake)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
    set_target_properties(${target} PROPERTIES CUDA_COMPILER_LAUNCHER
        "${CMAKE_COMMAND};-DFOLDER=${folder};-P;${script};--;${CMAKE_CUDA_COMPILER_LAUNCHER}")
    get_target_property(sources ${target} SOURCES)
    list(TRANSFORM sources REPLACE ".*/([^/]+)$" "${folder}/\\1.txt")
    add_custom_command(TARGET ${target} POST_BUILD
        COMMAND ${CMAKE_COMMAND} -E cat ${sources} > $<TARGET_FILE_DIR:${target}>/ptxas.txt
        VERBATIM)
endfunction()
