# The front door; Meson does the work.
.PHONY: all deps build models demo test bench format clean
QUESTIONS ?= 4

all: build
deps:                  # installs the Debian packages of packages.txt that are missing
	@tools/deps.sh
build: deps
	@test -d build || meson setup build --buildtype=release >/dev/null
	@ninja -C build --quiet rmas
models: deps           # the small real models, once, into RMAS_MODELS or ~/.cache/rmas/models
	@tools/fetch_models.py
demo: build models     # a team of real models answers word problems by latent recursion
	build/rmas run --system systems/nano-sequential --dataset gsm8k --dataset_path systems/demo/questions.jsonl \
	  --num_samples $(QUESTIONS) --batch_size 4 --max_new_tokens 256
test: deps
	@tests/run.sh
bench: build models
	@bench/run.sh
format:
	@tools/format.sh
clean:
	rm -rf build build-ci build-asan build-fuzz
