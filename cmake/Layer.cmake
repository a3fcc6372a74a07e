# SPDX-License-Identifier: GPL-2.0-or-later
# es_layer(NAME SOURCES file... USES layer... LIBRARIES target...)
#
# One static library a layer. Its include root in the build tree holds only a symbolic link to that layer, so that the
# compiler does not find the header of a layer that is not used. check_layer_NAME links the whole layer with only what
# it declares: a symbol of a layer that is not used stays undefined there.
function(es_layer NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  set(root ${CMAKE_BINARY_DIR}/layers/${NAME})
  file(MAKE_DIRECTORY ${root})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${NAME} SYMBOLIC)
  add_library(es_${NAME} STATIC ${ARG_SOURCES})
  es_optimize(es_${NAME})
  target_include_directories(es_${NAME} PUBLIC ${root} ${CMAKE_SOURCE_DIR}/include)
  list(TRANSFORM ARG_USES PREPEND es_ OUTPUT_VARIABLE uses)
  target_link_libraries(es_${NAME} PUBLIC ${uses} PRIVATE ${ARG_LIBRARIES} Threads::Threads)
  if(ES_TESTS)
    add_executable(check_layer_${NAME} ${CMAKE_SOURCE_DIR}/cmake/empty_main.c)
    target_link_libraries(check_layer_${NAME} PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,es_${NAME}>)
    set_target_properties(check_layer_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/checks)
  endif()
endfunction()
