# SPDX-License-Identifier: GPL-2.0-or-later
# Warnings are errors in every preset, with gcc and clang; sanitizers and hardening by preset.
add_compile_options(-Wall -Wextra -Wshadow -Wconversion -Wswitch-enum -Wmissing-prototypes
  -Wstrict-prototypes -Wvla -Wundef -Wformat=2 -Werror -fno-omit-frame-pointer)
add_compile_definitions(_GNU_SOURCE)
if(ES_FUZZ)
  # The layers are instrumented too, or libFuzzer would be blind in them.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(ES_SANITIZE)
  add_compile_definitions(ESI_SANITIZED=1)
endif()
if(ES_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
elseif(ES_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(ESI_TSAN=1)
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  add_compile_options(-O3 -fstack-protector-strong)
  add_compile_definitions(_FORTIFY_SOURCE=2)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
