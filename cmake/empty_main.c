/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program of check_layer_NAME: only its linking is of interest. */
int main(void)
{
    return 0;
}
