/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paths in /proc/self/cgroup are those of the host where the cgroup namespace is not the
 * container's own, and are then not to be found under /sys/fs/cgroup: what cannot be opened is
 * passed over, and the mount's root, which is the container's own group there, is always looked at.
 */
#include "env/env_cgroup.h"

#include "base/own.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES_MAX = 4096 };

/* From mount + group up to the mount itself: a parent's limit binds its children. */
static void look_upwards(const char *mount, const char *group, bool is_version_2,
                         esi_env_cgroup_look_fn look, void *argument)
{
    char folder[PATH_BYTES_MAX];
    const size_t mount_len = strlen(mount);

    if (strstr(group, "..") != NULL ||
        snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder) {
        snprintf(folder, sizeof folder, "%s", mount);
    }
    for (;;) {
        look(argument, folder, is_version_2);
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < mount_len) {
            return;
        }
        *slash = '\0';
    }
}

/* True when the list "cpu,cpuacct" names the controller. */
static bool names_controller(const char *controllers, const char *controller)
{
    const size_t wanted_len = strlen(controller);

    for (const char *at = controllers; *at != '\0';) {
        const size_t len = strcspn(at, ",");
        if (len == wanted_len && memcmp(at, controller, len) == 0) {
            return true;
        }
        at += len;
        at += *at == ',' ? 1 : 0;
    }
    return false;
}

/* One line of the list: "ID:CONTROLLERS:PATH"; version 2 has ID 0 and no controllers. */
static void look_at_entry(char *line, const struct esi_env_cgroup *where,
                          esi_env_cgroup_look_fn look, void *argument)
{
    char mount[PATH_BYTES_MAX];

    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) {
        return;
    }
    controllers++;
    *group++ = '\0';
    if (*controllers == '\0') {
        look_upwards(where->root, group, true, look, argument);
        snprintf(mount, sizeof mount, "%s/unified", where->root);
        look_upwards(mount, group, true, look, argument);
        return;
    }
    if (!names_controller(controllers, where->controller)) {
        return;
    }
    for (size_t i = 0; i < ESI_COUNT_OF(where->mounts) && where->mounts[i] != NULL; i++) {
        snprintf(mount, sizeof mount, "%s%s", where->root, where->mounts[i]);
        look_upwards(mount, group, false, look, argument);
    }
}

void esi_env_cgroup_each(const struct esi_env_cgroup *where, esi_env_cgroup_look_fn look,
                         void *argument)
{
    char line[ESI_ENV_CGROUP_LINE_MAX];

    look(argument, where->root, true);
    FILE *file = fopen(where->list, "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        look_at_entry(line, where, look, argument);
    }
    fclose(file);
}

bool esi_env_cgroup_read(const char *folder, const char *name, char *line, size_t capacity)
{
    char path[PATH_BYTES_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const bool is_read = fgets(line, (int)capacity, file) != NULL;
    fclose(file);
    if (is_read) {
        line[strcspn(line, "\n")] = '\0';
    }
    return is_read;
}
