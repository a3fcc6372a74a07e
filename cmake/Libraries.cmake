# SPDX-License-Identifier: GPL-2.0-or-later
# The third-party libraries, one imported target each (es_lib_*); each is used by the files named in docs/style.md only.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(es_urcu REQUIRED IMPORTED_TARGET liburcu-qsbr)
pkg_check_modules(es_yaml REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(es_jansson REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(es_nghttp2 REQUIRED IMPORTED_TARGET libnghttp2)
pkg_check_modules(es_protobuf_c REQUIRED IMPORTED_TARGET libprotobuf-c)
find_library(ES_CRYPT_LIBRARY crypt REQUIRED)
include(WolfSSL)
