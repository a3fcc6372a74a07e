# SPDX-License-Identifier: GPL-2.0-or-later
# ES_LTO: programs and library are optimised as a whole when they are linked. The objects hold both forms, so that tests,
# of which there are many, are linked in the ordinary way, which takes a twentieth of the time.
# ES_PROFILE: make (the programs write down how often each branch is taken) or use; scripts/build-optimized does both.
option(ES_LTO "Link-time optimisation of programs and library (gcc)" OFF)
set(ES_PROFILE "" CACHE STRING "Profile-guided optimisation: empty, make or use (gcc)")
set_property(CACHE ES_PROFILE PROPERTY STRINGS "" make use)
if((ES_LTO OR ES_PROFILE) AND NOT CMAKE_C_COMPILER_ID STREQUAL "GNU")
  message(FATAL_ERROR "ES_LTO and ES_PROFILE need gcc; the compiler is ${CMAKE_C_COMPILER_ID}")
endif()

# es_optimize(TARGET): a layer, a program or the library.
function(es_optimize TARGET)
  get_target_property(type ${TARGET} TYPE)
  set(compile "")
  set(link "")
  if(ES_LTO)
    list(APPEND compile -flto=auto -ffat-lto-objects)
    list(APPEND link -fuse-linker-plugin -flto=auto -O3)
  endif()
  if(ES_PROFILE STREQUAL "make")
    # Several threads count.
    list(APPEND compile -fprofile-generate -fprofile-update=atomic)
    list(APPEND link -fprofile-generate)
  elseif(ES_PROFILE STREQUAL "use")
    # What the training did not reach is optimised as if there were no profile.
    list(APPEND compile -fprofile-use -fprofile-partial-training -Wno-missing-profile)
    list(APPEND link -fprofile-use -fprofile-partial-training -Wno-missing-profile)
  endif()
  target_compile_options(${TARGET} PRIVATE ${compile})
  if(NOT type STREQUAL "STATIC_LIBRARY")
    target_link_options(${TARGET} PRIVATE ${link})
  endif()
endfunction()

if(ES_LTO)
  add_link_options(-fno-use-linker-plugin)
endif()
