# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2154 # make_scratch sets $scratch
# Packages of any of Debian's suites, from the mirrors that this machine uses. apt
# verifies what it downloads; its lists and cache here are private, and of /etc only the
# addresses of the mirrors are read. Sourced after lib.sh.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# on_mirrors SUITE COMMAND...: runs COMMAND, which calls private_apt, for one mirror
# after the other until it succeeds; its output goes to $scratch/log
on_mirrors() {
	on_suite=$1
	shift
	need "$debian_keyring" debian-archive-keyring
	make_scratch
	chmod 755 "$scratch"
	mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/deb"
	: >"$scratch/log"
	for on_mirror in $(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u); do
		printf 'deb [signed-by=%s] %s %s main\n' "$debian_keyring" "$on_mirror" "$on_suite" \
			>"$scratch/sources.list"
		private_apt apt-get update >"$scratch/log" 2>&1 || continue
		"$@" >>"$scratch/log" 2>&1 && return
	done
	return 1
}

# private_apt apt-get|apt-cache ARGUMENT...
private_apt() {
	private_command=$1
	shift
	"$private_command" -o Dir::Etc::sourcelist="$scratch/sources.list" \
		-o Dir::Etc::sourceparts=- -o Dir::State::lists="$scratch/lists" \
		-o Dir::State::status=/dev/null -o Dir::Cache="$scratch/cache" \
		-o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root "$@" </dev/null
}

# download PACKAGE...: into $scratch/deb
download() {
	(cd "$scratch/deb" && private_apt apt-get download "$@")
}
