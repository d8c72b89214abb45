# SPDX-License-Identifier: GPL-2.0
# Sizes of what the series changes: from "kernel object text data" and
# "kernel struct_NAME bytes".

{
	if (!($2 in seen)) {
		seen[$2]
		name[++names] = $2
	}
	first[$1, $2] = $3
	second[$1, $2] = $4
}

END {
	printf "\n%-44s %12s %12s %8s\n", "size (bytes)", "unpatched", "patched", "more"
	for (i = 1; i <= names; i++) {
		n = name[i]
		b = first["base", n]
		s = first["series", n]
		if (n ~ /^struct_/) {
			sub(/^struct_/, "struct ", n)
			printf "  %-42s %12d %12d %+8d\n", n, b, s, s - b
			continue
		}
		printf "  %-42s %12d %12d %+8d\n", n " text", b, s, s - b
		text_b += b
		text_s += s
		b = second["base", n]
		s = second["series", n]
		data_b += b
		data_s += s
		if (b != s)
			printf "  %-42s %12d %12d %+8d\n", n " data", b, s, s - b
	}
	printf "  %-42s %12d %12d %+8d\n", "all of them, text", text_b, text_s, text_s - text_b
	printf "  %-42s %12d %12d %+8d\n", "all of them, data", data_b, data_s, data_s - data_b
}
