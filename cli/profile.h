/* A profile as a table and as JSON. */
#ifndef RM_CLI_PROFILE_H
#define RM_CLI_PROFILE_H

#include <stdbool.h>

#include "tensor/exec.h"

/* Stops the profile of e, measures the machine for comparison, prints tables on stderr (if print) and writes JSON to path (if not NULL). */
rmas_status rm_profile_report(rm_exec *e, bool print, const char *path, rmas_error *err);

#endif
