std = "lua54"
max_line_length = 140
exclude_files = { "build/**", ".cache/**" }
files["spec"] = { std = "+busted" }
files["examples/**/*_spec.lua"] = { std = "+busted" }
