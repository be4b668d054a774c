/* From a system to files: where each model and link of a run lies. Nothing is opened but small JSON files. */
#ifndef RM_SYSTEM_RESOLVE_H
#define RM_SYSTEM_RESOLVE_H

#include "system/system.h"

typedef struct {
    char *model; /* a folder or a .gguf file */
    char *inner; /* NULL: made from the seed, or not wanted */
    char *inner_type; /* adapter type that adapter_config.json beside the link states; NULL: none */
} rm_agent_files;

typedef struct {
    char *file; /* NULL: made from the seed, or not wanted */
    char *type; /* adapter type that the manifest of the links states; NULL: none */
} rm_edge_files;

typedef struct {
    rm_agent_files *agent; /* [n_agent of the system] */
    rm_edge_files *edge; /* [n_edge] */
    int n_agent, n_edge, n_seeded; /* n_seeded: links that will be made from the seed */
} rm_files;

/* override: "KEY=PATH" with a role, or "outer" for the folder of outer links. links: false if the run needs none (agents
 * exchange text). All parts that are missing are named in one message, with the repository that has them. */
typedef struct {
    rm_link_task task;
    const char *const *override;
    int n_override;
    bool links;
} rm_resolve_options;
rmas_status rm_system_locate(rm_files *out, const rm_system *s, const rm_resolve_options *o, rmas_error *err);
void rm_files_free(rm_files *f); /* fine on a zeroed struct */
/* The model of one agent alone. *out belongs to the caller. */
rmas_status rm_system_model(char **out, const rm_system *s, int agent, const char *const *override, int n_override, rmas_error *err);

/* The generation settings that lie in a model's folder. */
typedef struct {
    int top_k; /* -1: not stated */
    float min_p; /* -1: not stated */
    int32_t *end; /* further end tokens */
    int n_end;
    char odd[64]; /* a setting that the reference would obey and that is not supported here; "" if none */
} rm_generation_config;
rmas_status rm_generation_config_read(rm_generation_config *out, const char *model, rmas_error *err); /* model: as rm_agent_files.model */

#endif
