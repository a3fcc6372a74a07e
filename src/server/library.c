/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared library is made of the layers as they are; CMake wants one source of its own. */
#include <eventservice/eventservice.h>
