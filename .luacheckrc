std = "lua54"
max_line_length = 140
exclude_files = { "build/**", ".cache/**" }
files["spec"] = { std = "+busted" }
files["examples/**/*_spec.lua"] = { std = "+busted" }
files["lua/moonshim/_meta"] = { ignore = { "212", "241", "431", "631" } } -- stubs have no bodies
