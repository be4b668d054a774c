#include "weights/reader.h"

rmas_status rm_pt_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err) {
    (void)w, (void)m;
    return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: PyTorch files are unsupported", path);
}

rmas_status rm_pt_write(const char *path, const rm_tensor *t, int n, rmas_error *err) {
    (void)t, (void)n;
    return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: PyTorch files are unsupported", path);
}
