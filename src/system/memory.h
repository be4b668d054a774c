/* Will it fit? An estimate before a run begins, so that it fails at once and with advice instead of late and without. */
#ifndef RM_SYSTEM_MEMORY_H
#define RM_SYSTEM_MEMORY_H

#include "system/run.h"

/* Bytes of sequence states that the run may hold at a time, with texts of full length. */
size_t rm_memory_estimate(const rm_team *t, const rm_run_options *o);
/* Bytes that this process may still take (of the machine, or of its control group); 0: not known. */
size_t rm_memory_available(void);
rmas_status rm_memory_check(const rm_team *t, const rm_run_options *o, rmas_error *err);

#endif
