# make, make musl, make test, make world, make bench, make install, make
# uninstall, make clean. Give CXX, CXXFLAGS, LINK, LDFLAGS, PREFIX and DESTDIR as
# arguments: `make CXX=clang++`. From the environment, make takes CXX alone, and
# the others only with -e. `make LDFLAGS=-s` links dynamically, to libc alone.
# The linker of macOS needs `make LINK= LDFLAGS=`. To build in another directory,
# from a clean tree: `make -f ../pinglog/Makefile VPATH=../pinglog`.

CXXFLAGS = -Os
LDFLAGS = -static -s -Wl,--gc-sections
PREFIX = /usr/local
DESTDIR =

# 64-bit times and file sizes also on 32-bit machines; nothing that needs the
# run time of C++ or of its exceptions; one segment for code and constants.
FLAGS = -std=c++17 -Wall -Wextra -Wpedantic -D_FILE_OFFSET_BITS=64 \
	-D_TIME_BITS=64 -fno-exceptions -fno-rtti -ffunction-sections \
	-fdata-sections -fno-asynchronous-unwind-tables
LINK = -Wl,--as-needed -Wl,-z,noseparate-code -static-libgcc

all: pinglog

pinglog: daemon.o pinglog.o
	$(CXX) $(CXXFLAGS) $(LINK) $(LDFLAGS) -o $@ daemon.o pinglog.o

daemon.o pinglog.o: daemon.h

.SUFFIXES: .cpp .o
.cpp.o:
	$(CXX) $(FLAGS) $(CXXFLAGS) -c -o $@ $<

# musl-gcc knows no headers of C++. Those of g++ are made for glibc, and ask
# for its version.
musl:
	@command -v musl-gcc >/dev/null || { echo "make musl: no musl-gcc" \
		"(Debian: apt-get install musl-tools)"; exit 1; }
	rm -f pinglog daemon.o pinglog.o
	headers=$$(g++ -E -x c++ -v /dev/null 2>&1 | \
		sed -n 's,^ \(/.*/c++/[^/]*\)$$,-isystem \1,p') && \
	$(MAKE) CXX=musl-gcc CXXFLAGS="$(CXXFLAGS) \
		'-D__GLIBC_PREREQ(a,b)=0' $$(echo $$headers)" all

test: all
	cd test && $(MAKE) CXX='$(CXX)' CXXFLAGS='$(CXXFLAGS)' test

world:
	cd test/world && ./run

bench:
	cd test/bench && ./run

install: all
	mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	cp -f pinglog "$(DESTDIR)$(PREFIX)/bin/pinglog"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/pinglog"

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/pinglog"

clean:
	rm -f pinglog *.o
	cd test && $(MAKE) clean

.NOTPARALLEL: # `make -j clean all` has to clean first
.PHONY: all musl test world bench install uninstall clean
