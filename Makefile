# The front door; Meson does the work.
.PHONY: all deps build demo test bench format clean
all: build
deps:            # installs the Debian packages of packages.txt that are missing
	@tools/deps.sh
build: deps
	@test -d build || meson setup build --buildtype=release
	@ninja -C build
test: deps
	@tests/run.sh
clean:
	rm -rf build build-asan
