# cmake --build out --target sanitize-memcheck (or sanitize-racecheck): the kernels' tests on a GPU,
# under NVIDIA's compute-sanitizer.
cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH toolkit)
find_program(COMPUTE_SANITIZER compute-sanitizer HINTS ${toolkit})
find_program(ALLFOCUS_PYTHON NAMES python python3
    HINTS ${PROJECT_SOURCE_DIR}/.venv/bin DOC "Python that has allfocus, torch and pytest")
foreach(needed COMPUTE_SANITIZER ALLFOCUS_PYTHON)
    if(NOT ${needed})
        message(STATUS "No targets sanitize-memcheck and sanitize-racecheck: ${needed} not found")
        return()
    endif()
endforeach()

foreach(tool memcheck racecheck)
    add_custom_target(sanitize-${tool}
        # Without PyTorch's cache each tensor is an allocation of its own, whose ends are watched.
        COMMAND ${CMAKE_COMMAND} -E env PYTORCH_NO_CUDA_MEMORY_CACHING=1
            ALLFOCUS_KERNELS=$<TARGET_FILE:allfocus_kernels>
            ${COMPUTE_SANITIZER} --tool ${tool} --error-exitcode 1 --target-processes all
            ${ALLFOCUS_PYTHON} -m pytest -m gpu -p no:cacheprovider
            tests/test_isotropic_cuda.py tests/test_sft_cuda.py
        WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
        USES_TERMINAL VERBATIM)
    add_dependencies(sanitize-${tool} allfocus_kernels)
endforeach()
