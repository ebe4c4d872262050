// support.h - the headers that every test file needs.

#ifndef SUPPORT_H
#define SUPPORT_H

#include "log_checker.h"
#include "process.h"
#include "sandbox.h"
#include "surroundings.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <set>

#endif
