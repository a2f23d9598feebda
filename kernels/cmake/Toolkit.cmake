# Finds nvcc 12 or 13, and decides for which GPUs to compile:
#   ALLFOCUS_ARCHITECTURES  "75,80,86": compute capabilities times ten, with machine code
#   ALLFOCUS_CODE           the same for CMake, and the PTX of the newest, for GPUs yet to come
set(ALLFOCUS_DEFAULT_ARCHITECTURES 75 80 86 87 89 90 100 110 120)

if(NOT CMAKE_CUDA_COMPILER)
    find_program(CMAKE_CUDA_COMPILER NAMES $ENV{CUDACXX} nvcc  # PATH need not have the toolkit
        HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
    if(NOT CMAKE_CUDA_COMPILER)
        unset(CMAKE_CUDA_COMPILER CACHE)  # so that the next try looks again
        message(FATAL_ERROR "No CUDA compiler: allfocus' kernels need nvcc of the CUDA toolkit 12 "
            "or 13. Install it, or say where it is with -DCMAKE_CUDA_COMPILER=/path/to/nvcc. "
            "Without the kernels the Python package works all the same, on a CPU.")
    endif()
endif()

# What to compile for, before CMake tries the compiler with it: it would choose a default of its own.
set(asked ${CMAKE_CUDA_ARCHITECTURES})
if(NOT asked)
    set(asked $ENV{CUDAARCHS})
endif()
if(NOT asked)
    set(asked ${ALLFOCUS_DEFAULT_ARCHITECTURES})
endif()
if(NOT asked STREQUAL "native")
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known)
    set(CMAKE_CUDA_ARCHITECTURES "")
    list(TRANSFORM asked REPLACE "-(real|virtual)$" "")
    foreach(number IN LISTS asked)
        if(NOT number MATCHES "^[0-9]+$")
            message(FATAL_ERROR "CMAKE_CUDA_ARCHITECTURES: ${number}; expected numbers, such as 86 "
                "for compute capability 8.6, or native.")
        elseif(known MATCHES "sm_${number}[^0-9]")
            list(APPEND CMAKE_CUDA_ARCHITECTURES ${number})
        else()
            message(STATUS "sm_${number} is left out: ${CMAKE_CUDA_COMPILER} does not know it")
        endif()
    endforeach()
    if(NOT CMAKE_CUDA_ARCHITECTURES)
        message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} knows none of the architectures ${asked}; "
            "allfocus' kernels need nvcc 12 or 13, and GPUs from compute capability 7.5 on.")
    endif()
endif()

enable_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA" OR CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
    message(FATAL_ERROR "allfocus' kernels need nvcc 12 or 13; ${CMAKE_CUDA_COMPILER} is "
        "${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}. Give another with "
        "-DCMAKE_CUDA_COMPILER=/path/to/nvcc.")
endif()

set(numbers ${CMAKE_CUDA_ARCHITECTURES})
if(numbers STREQUAL "native")
    set(numbers ${CMAKE_CUDA_ARCHITECTURES_NATIVE})
    list(TRANSFORM numbers REPLACE "-real$" "")
    if(NOT numbers)
        message(FATAL_ERROR "CMAKE_CUDA_ARCHITECTURES=native, and this machine has no GPU that "
            "CUDA can use. Give its number, such as 86 for compute capability 8.6.")
    endif()
endif()
# One rule whatever was asked for: machine code for each, PTX of the newest. library.py counts on it.
list(REMOVE_DUPLICATES numbers)
list(SORT numbers COMPARE NATURAL)
list(JOIN numbers "," ALLFOCUS_ARCHITECTURES)
list(GET numbers -1 newest)
list(TRANSFORM numbers APPEND "-real" OUTPUT_VARIABLE ALLFOCUS_CODE)
list(APPEND ALLFOCUS_CODE ${newest}-virtual)
message(STATUS "allfocus ${ALLFOCUS_VERSION} for sm_${ALLFOCUS_ARCHITECTURES}, PTX ${newest}, with "
    "nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
