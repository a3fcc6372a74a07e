/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forgets the macros of config/schema.def, so that it can be included again. No #pragma once: that
 * is its use. */
#undef GROUP
#undef KEY
#undef CHOICE
#undef PART
#undef PART_FLAG
#undef SECTION
#undef SECTION_FLAG
#undef LIST
#undef MAP
#undef SHORTHAND
#undef NAME
#undef ALIAS
#undef LATER
