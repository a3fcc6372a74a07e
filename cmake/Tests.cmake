# SPDX-License-Identifier: GPL-2.0-or-later
pkg_check_modules(es_cmocka REQUIRED IMPORTED_TARGET cmocka)

# What every test's programs are told: a finding ends them, and what ThreadSanitizer cannot see is not a finding.
set(ES_TEST_ENVIRONMENT "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.supp halt_on_error=1")

# es_unit_test(LAYER FILE [USES layer...]): tests/unit/LAYER/test_FILE.c, linked with its layer, label "unit".
function(es_unit_test LAYER FILE)
  cmake_parse_arguments(ARG "" "" "USES;LIBRARIES" ${ARGN})
  set(name test_${LAYER}_${FILE})
  add_executable(${name} ${CMAKE_SOURCE_DIR}/tests/unit/${LAYER}/test_${FILE}.c)
  list(TRANSFORM ARG_USES PREPEND es_ OUTPUT_VARIABLE uses)
  target_link_libraries(${name} PRIVATE es_${LAYER} ${uses} ${ARG_LIBRARIES} PkgConfig::es_cmocka Threads::Threads)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/support)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME unit/${LAYER}/${FILE} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(unit/${LAYER}/${FILE} PROPERTIES LABELS unit TIMEOUT 120
    ENVIRONMENT "${ES_TEST_ENVIRONMENT}")
endfunction()

# es_fuzz(TARGET USES layer...): tests/fuzz/TARGET.c. With ES_FUZZ a libFuzzer program fuzz_TARGET; always an ordinary
# test that replays tests/fuzz/TARGET.in/* (label "fuzz").
function(es_fuzz TARGET)
  cmake_parse_arguments(ARG "" "" "USES;LIBRARIES" ${ARGN})
  list(TRANSFORM ARG_USES PREPEND es_ OUTPUT_VARIABLE uses)
  add_executable(replay_${TARGET} ${CMAKE_SOURCE_DIR}/tests/fuzz/${TARGET}.c ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c)
  target_link_libraries(replay_${TARGET} PRIVATE ${uses} ${ARG_LIBRARIES})
  set_target_properties(replay_${TARGET} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME fuzz/${TARGET} COMMAND replay_${TARGET} ${CMAKE_SOURCE_DIR}/tests/fuzz/${TARGET}.in)
  set_tests_properties(fuzz/${TARGET} PROPERTIES LABELS fuzz TIMEOUT 120 ENVIRONMENT "${ES_TEST_ENVIRONMENT}")
  if(ES_FUZZ)
    add_executable(fuzz_${TARGET} ${CMAKE_SOURCE_DIR}/tests/fuzz/${TARGET}.c)
    target_compile_options(fuzz_${TARGET} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${TARGET} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${TARGET} PRIVATE ${uses} ${ARG_LIBRARIES})
  endif()
endfunction()
