# CUDA kernels, where nvcc is found: compiled to one image for all processors, which is embedded in the library.
# No part of CUDA is linked; the driver is found at run time.
find_program(KVOT_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin
  DOC "CUDA compiler; without it the library has no CUDA kernels")
set(KVOT_CUDA_ARCHITECTURES "80;86;89;90;100;120" CACHE STRING
  "CUDA: processors to compile for, as far as nvcc knows them; PTX for compute_80 is always there")

if(KVOT_NVCC)
  execute_process(COMMAND ${KVOT_NVCC} --version OUTPUT_VARIABLE version_of_nvcc)
  string(REGEX MATCH "release ([0-9.]+)" version_of_nvcc "${version_of_nvcc}")
  if(CMAKE_MATCH_1 VERSION_LESS 12.4)
    message(WARNING "${KVOT_NVCC} is older than 12.4: no CUDA kernels")
    set(KVOT_NVCC KVOT_NVCC-NOTFOUND CACHE FILEPATH "CUDA compiler" FORCE)
  endif()
endif()

if(KVOT_NVCC)
  enable_language(ASM)
  execute_process(COMMAND ${KVOT_NVCC} --list-gpu-code OUTPUT_VARIABLE known)
  set(targets -gencode arch=compute_80,code=compute_80)
  foreach(architecture ${KVOT_CUDA_ARCHITECTURES})
    if(known MATCHES "sm_${architecture}\n")
      list(APPEND targets -gencode arch=compute_${architecture},code=sm_${architecture})
    endif()
  endforeach()
  # Contraction and approximations would change results (kernels/kernels.h).
  set(flags -std=c++17 -O3 --fmad=false --ftz=false --prec-div=true --threads 0)
  # Six times smaller. Drivers that know what such an nvcc compiles can also unpack it.
  execute_process(COMMAND ${KVOT_NVCC} --help OUTPUT_VARIABLE help)
  if(help MATCHES "--compress-mode")
    list(APPEND flags --compress-mode=size)
  endif()
  set(module ${CMAKE_CURRENT_BINARY_DIR}/kvot_cuda.fatbin)
  file(GLOB cuda_sources CONFIGURE_DEPENDS kernels/cuda/*.cuh kernels/cuda/launch.h)
  add_custom_command(OUTPUT ${module}
    COMMAND ${KVOT_NVCC} ${flags} ${targets} -fatbin -o ${module} ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cuda/kernels.cu
    DEPENDS kernels/cuda/kernels.cu ${cuda_sources} kernels/kernels.h kernels/levels.h
    COMMENT "Compiling CUDA kernels" VERBATIM)
  set_source_files_properties(kernels/cuda/module.S PROPERTIES OBJECT_DEPENDS ${module}
    COMPILE_OPTIONS "-DMODULE=\"${module}\"")
  target_sources(kvot_objects PRIVATE kernels/cuda/module.S)
  target_compile_definitions(kvot_objects PRIVATE KVOT_CUDA)
endif()
