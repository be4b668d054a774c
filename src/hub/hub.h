/* The local cache of the Hugging Face hub: from owner/name to a folder of files. Reads only, never the network. */
#ifndef RM_HUB_HUB_H
#define RM_HUB_HUB_H

#include "util/error.h"

/* The snapshot folder of "owner/name" or "owner/name@revision" (branch, tag or commit; default main); *out is the caller's
 * (rm_free). Looked for in $HF_HUB_CACHE, or else $HF_HOME/hub, or else $XDG_CACHE_HOME/huggingface/hub, or else
 * ~/.cache/huggingface/hub. The error names the repository and the folder looked at. */
rmas_status rm_hub_snapshot(char **out, const char *repo, rmas_error *err);

/* True if text has the form of a repository name, with or without a revision (and so could not be told from owner/name of
 * a relative path: look for the path first). */
int rm_hub_is_repo(const char *text);

#endif
