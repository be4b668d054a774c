# The front door; Meson does the work.
.PHONY: all deps build models demo train-nano test bench format clean
QUESTIONS ?= 4
TRAINED = build/nano-trained

all: build
deps:                  # installs the Debian packages of packages.txt that are missing
	@tools/deps.sh
build: deps
	@test -d build || meson setup build --buildtype=release >/dev/null
	@ninja -C build --quiet rmas
models: deps           # the small real models, once, into RMAS_MODELS or ~/.cache/rmas/models
	@tools/fetch_models.py
demo: build models     # a team of real models answers word problems by latent recursion; with trained links if they are there
	build/rmas run --system $(if $(wildcard $(TRAINED)/outer/outerlink_config.json),$(TRAINED),systems/nano-sequential) --dataset gsm8k --dataset_path systems/demo/questions.jsonl \
	  --num_samples $(QUESTIONS) --batch_size 4 --max_new_tokens 256
train-nano: build models  # trains the links of the demo's team on word problems of our own; takes up an interrupted run
	tools/train_nano.py --out $(TRAINED)
test: deps
	@tests/run.sh
bench: build models
	@bench/run.sh
format:
	@tools/format.sh
clean:
	rm -rf build build-ci build-fuzz
