/* Weight files behind one interface: name -> tensor. Opening maps files and checks them whole; it never executes anything
 * from them and never allocates more than the file's size justifies. */
#ifndef RM_WEIGHTS_WEIGHTS_H
#define RM_WEIGHTS_WEIGHTS_H

#include "tensor/tensor.h"
#include "util/error.h"
#include "weights/gguf.h"

typedef struct rm_weights rm_weights;

typedef enum { RM_FILE_SAFETENSORS, RM_FILE_GGUF, RM_FILE_PT } rm_file_kind;

/* path: a .safetensors, .gguf or .pt file (told by content), or a folder with model.safetensors or its index. */
rmas_status rm_weights_open(rm_weights **out, const char *path, rmas_error *err);
void rm_weights_close(rm_weights *w); /* tensors and names die with it */
rm_file_kind rm_weights_kind(const rm_weights *w);
const rm_gguf *rm_weights_gguf(const rm_weights *w); /* metadata; NULL if not a GGUF file */
int rm_weights_count(const rm_weights *w);
const rm_tensor *rm_weights_at(const rm_weights *w, int i); /* in file order */
/* The tensor was copied: its pages need not stay in memory. Reading it again brings them back from the file. */
void rm_weights_release(const rm_weights *w, const rm_tensor *t);
const rm_tensor *rm_weights_find(const rm_weights *w, const char *name); /* NULL if absent */

/* Writes F32 / I64 / BF16 ... tensors (data contiguous) as one safetensors file, atomically. */
rmas_status rm_safetensors_write(const char *path, const rm_tensor *t, int n, rmas_error *err);
/* Writes a PyTorch state dict (stored zip + pickle) that torch.load(weights_only=True) reads. */
rmas_status rm_pt_write(const char *path, const rm_tensor *t, int n, rmas_error *err);

#endif
