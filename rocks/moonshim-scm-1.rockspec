rockspec_format = "3.0"
package = "moonshim"
version = "scm-1"

-- Built from a checkout: luarocks --lua-version 5.4 make --deps-mode none rocks/moonshim-scm-1.rockspec
-- Needs the packages of `packages build` in scripts/common.sh, libnl-route-3-dev among them.
source = { url = "git+file://." }

description = {
  summary = "Pods of Linux containers in utility VMs, every lifecycle decision in Lua",
  detailed = "The Lua module moonshim with its C core, the command moonshim and the agent moonshim-guest.",
  license = "MIT",
}

supported_platforms = { "linux" }

dependencies = { "lua >= 5.4, < 5.5", "luv", "lua-cjson", "argparse" }

build = {
  type = "command",
  build_command = "cmake --preset release -B build/rock && cmake --build build/rock",
  install_command = "sh rocks/install build/rock $(LUADIR) $(LIBDIR) $(BINDIR)",
}
