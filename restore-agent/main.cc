// SPDX-License-Identifier: LGPL-2.1-or-later
#include "run_agent.h"

int main(int argc, char** argv) { return agent::run_agent(argc, argv, ckpt::Env::system()); }
