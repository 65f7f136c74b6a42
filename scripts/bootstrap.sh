#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Finds what this machine lacks for building, testing or showing connguard, and installs it with the
# distribution's package manager. It asks for the thing that is needed (a program that runs, a header
# that compiles, a pkg-config module), never for a package name, so that tools from elsewhere count.
# Nothing missing: no package manager is called and nothing is printed.
#
# Packages may bring daemons. None of them is started, nor left to start at the next boot.
#
# usage: bootstrap.sh [--check] [GROUP]...     (default: build)
#          GROUP: build, test, demo, lint, vm, fuzz, model, services
#        bootstrap.sh --print-bpftool | --print-virtiofsd
#   --check            install nothing: name what is missing and exit 1
#   --print-bpftool    print the path of a bpftool that runs on this kernel, exit 1 if there is none
#   --print-virtiofsd  print the path of virtiofsd, exit 1 if there is none
#
# environment: CC, CLANG              the compilers to look for (gcc, clang)
#              BPFTOOL                the bpftool to look for, before the usual places
#              CONNGUARD_BOOTSTRAP_MINIMAL=1
#                                     do not install the language runtimes (Node, Go) that only the
#                                     tests of refused dials in real programs use
set -eu

# Tools for administrators are often not in the path of sudo-less shells and build systems.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() {
	printf 'bootstrap: %s\n' "$*" >&2
}

# Probes. Each answers "is it here and does it work?" by its exit status, silently.

probe_command() {
	command -v "$1" >/dev/null 2>&1
}

probe_module() {
	pkg-config --exists "$1" 2>/dev/null
}

probe_header() {
	# shellcheck disable=SC2086 # CC may carry words of its own, such as "ccache gcc"
	printf '#include <%s>\n' "$1" | ${CC:-gcc} -E -x c - >/dev/null 2>&1
}

probe_compiler() {
	# shellcheck disable=SC2086
	probe_command ${CC:-gcc} && probe_header stdio.h
}

probe_bpf_compiler() {
	# shellcheck disable=SC2086
	printf 'int value;\n' | ${CLANG:-clang} -target bpf -mcpu=v3 -g -x c -c - -o /dev/null \
		>/dev/null 2>&1
}

probe_sanitizers() {
	local program=$scratch/sanitizers
	# shellcheck disable=SC2086
	printf 'int main(void) { return 0; }\n' |
		${CC:-gcc} -fsanitize=address,undefined -x c - -o "$program" >/dev/null 2>&1
}

# Ubuntu's /usr/sbin/bpftool is a wrapper that refuses to run under a kernel whose tools package is
# not installed; the bpftool of another kernel version serves as well, and lies beside.
find_bpftool() {
	local candidate
	for candidate in "${BPFTOOL:-bpftool}" bpftool /usr/lib/linux-tools/*/bpftool \
		/usr/lib/linux-tools-*/bpftool; do
		if "$candidate" version >/dev/null 2>&1; then
			command -v "$candidate"
			return 0
		fi
	done
	return 1
}

probe_bpftool() {
	find_bpftool >/dev/null
}

# Not in the path anywhere: it is a helper of the machine emulator.
find_virtiofsd() {
	local candidate
	for candidate in virtiofsd /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd \
		/usr/lib/virtiofsd; do
		if command -v "$candidate"; then
			return 0
		fi
	done
	return 1
}

probe_virtiofsd() {
	find_virtiofsd >/dev/null
}

# It runs where no library is yet.
probe_static_busybox() {
	local program
	program=$(command -v busybox) && ! ldd "$program" >/dev/null 2>&1
}

# A daemon of FRR, which keeps them in a directory of its own.
probe_frr() {
	[ -x "/usr/lib/frr/$1" ] || [ -x "/usr/libexec/frr/$1" ]
}

# A library of Java in the places of the distributions.
probe_jar() {
	[ -e "/usr/share/java/$1.jar" ] && probe_command java
}

probe_fuzzer() {
	local program=$scratch/fuzzer
	# shellcheck disable=SC2086
	printf 'int LLVMFuzzerTestOneInput(void);\nint LLVMFuzzerTestOneInput(void) { return 0; }\n' |
		${CLANG:-clang} -fsanitize=fuzzer,address,undefined -x c - -o "$program" >/dev/null 2>&1
}

# What each group needs: probe | its argument | apt | dnf | pacman. An empty package means that this
# package manager has it under no known name.
needs_of() {
	case $1 in
	build)
		cat <<-'EOF'
			compiler||gcc libc6-dev|gcc glibc-devel|gcc
			bpf_compiler||clang|clang|clang
			bpftool||@bpftool|bpftool|bpf
			command|pkg-config|pkg-config|pkgconf-pkg-config|pkgconf
			header|linux/bpf.h|linux-libc-dev|kernel-headers|linux-api-headers
			module|libbpf|libbpf-dev|pkgconfig(libbpf)|libbpf
			module|libelf|libelf-dev|pkgconfig(libelf)|libelf
			module|zlib|zlib1g-dev|pkgconfig(zlib)|zlib
			module|libevent_core|libevent-dev|pkgconfig(libevent_core)|libevent
			module|libevent_extra|libevent-dev|pkgconfig(libevent_extra)|libevent
			module|inih|libinih-dev|pkgconfig(inih)|libinih
			module|jansson|libjansson-dev|pkgconfig(jansson)|jansson
			module|libmnl|libmnl-dev|pkgconfig(libmnl)|libmnl
			module|libcap-ng|libcap-ng-dev|pkgconfig(libcap-ng)|libcap-ng
			module|libseccomp|libseccomp-dev|pkgconfig(libseccomp)|libseccomp
		EOF
		;;
	test)
		cat <<-'EOF'
			module|cmocka|libcmocka-dev|pkgconfig(cmocka)|cmocka
			sanitizers||gcc|libasan libubsan|gcc
			command|ip|iproute2|iproute|iproute2
			command|nft|nftables|nftables|nftables
			command|nsenter|util-linux|util-linux-core|util-linux
			command|ps|procps|procps-ng|procps-ng
			command|python3|python3|python3|python
			command|curl|curl|curl|curl
		EOF
		;;
	demo)
		cat <<-'EOF'
			command|ip|iproute2|iproute|iproute2
			command|nft|nftables|nftables|nftables
			command|nsenter|util-linux|util-linux-core|util-linux
			command|ps|procps|procps-ng|procps-ng
			command|python3|python3|python3|python
		EOF
		;;
	lint)
		cat <<-'EOF'
			command|shellcheck|shellcheck|ShellCheck|shellcheck
			command|python3|python3|python3|python
		EOF
		;;
	vm)
		cat <<-'EOF'
			command|qemu-system-x86_64|qemu-system-x86|qemu-system-x86-core|qemu-system-x86
			virtiofsd||@virtiofsd|virtiofsd|virtiofsd
			static_busybox||busybox-static|busybox|busybox
			command|cpio|cpio|cpio|cpio
			command|depmod|kmod|kmod|kmod
		EOF
		;;
	fuzz)
		cat <<-'EOF'
			fuzzer||clang @clang_runtime|clang compiler-rt|clang compiler-rt
		EOF
		;;
	model)
		cat <<-'EOF'
			compiler||gcc libc6-dev|gcc glibc-devel|gcc
			header|linux/bpf.h|linux-libc-dev|kernel-headers|linux-api-headers
			command|spin|spin||
			command|python3|python3|python3|python
		EOF
		;;
	services)
		cat <<-'EOF'
			command|bird|bird2|bird|bird
			command|redis-server|redis-server|redis|redis
			frr|bgpd|frr|frr|frr
			command|ip|iproute2|iproute|iproute2
			command|ss|iproute2|iproute|iproute2
			command|nft|nftables|nftables|nftables
			command|nsenter|util-linux|util-linux-core|util-linux
			command|python3|python3|python3|python
		EOF
		;;
	esac
}

# Used by a test each, which says that it is skipped when what it needs is not there.
optional_of() {
	if [ "$1" = test ] && [ "${CONNGUARD_BOOTSTRAP_MINIMAL:-0}" != 1 ]; then
		cat <<-'EOF'
			command|node|nodejs|nodejs|nodejs
			command|go|golang-go|golang|go
		EOF
	elif [ "$1" = services ]; then
		# The library alone: the package of its name brings a desktop's Java with it.
		cat <<-'EOF'
			jar|zookeeper|libzookeeper-java default-jre-headless||
		EOF
	fi
}

# Reads needs, prints those whose probe fails, each once.
missing_of() {
	local probe argument rest
	while IFS='|' read -r probe argument rest; do
		# The probes must not eat the list that this loop reads.
		"probe_$probe" "$argument" </dev/null || printf '%s|%s|%s\n' "$probe" "$argument" "$rest"
	done | awk '!seen[$0]++'
}

# Reads needs, prints them in words on one line.
in_words() {
	awk -F'|' '
		$1 == "compiler"     { name = "a C compiler (gcc) with its headers" }
		$1 == "bpf_compiler" { name = "clang with the bpf target" }
		$1 == "bpftool"      { name = "a bpftool that runs" }
		$1 == "sanitizers"   { name = "the address and undefined-behaviour sanitizers" }
		$1 == "fuzzer"       { name = "the fuzzer and the sanitizers of clang" }
		$1 == "virtiofsd"    { name = "virtiofsd" }
		$1 == "static_busybox" { name = "a static busybox" }
		$1 == "frr"          { name = "FRR (" $2 ")" }
		$1 == "jar"          { name = "the Java library " $2 }
		$1 == "command"      { name = $2 }
		$1 == "header"       { name = "<" $2 ">" }
		$1 == "module"       { name = "library " $2 }
		{ printf "%s%s", separator, name; separator = ", " }'
}

package_manager() {
	local manager
	for manager in apt-get dnf pacman; do
		if probe_command "$manager"; then
			echo "$manager"
			return 0
		fi
	done
	return 1
}

# Reads needs, prints the packages of package manager $1, one a line, each once.
packages_for() {
	local field
	case $1 in
	apt-get) field=3 ;;
	dnf) field=4 ;;
	pacman) field=5 ;;
	esac
	cut -d'|' -f"$field" | tr ' ' '\n' | awk 'NF && !seen[$0]++' | while read -r package; do
		case $package in
		@bpftool) bpftool_packages ;;
		@virtiofsd) virtiofsd_packages ;;
		@clang_runtime) clang_runtime_packages ;;
		*) printf '%s\n' "$package" ;;
		esac
	done
}

# True when the package lists have a package of this name to install.
has_candidate() {
	apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'
}

# Debian has a package bpftool; Ubuntu ships it with the tools of each kernel.
bpftool_packages() {
	if has_candidate bpftool; then
		echo bpftool
	else
		printf '%s\n' linux-tools-common linux-tools-generic
	fi
}

# A package of its own since Debian 13 and Ubuntu 23.04, a part of the emulator's before.
virtiofsd_packages() {
	if has_candidate virtiofsd; then
		echo virtiofsd
	else
		echo qemu-system-common
	fi
}

# The runtime of the clang that is here, or of the one that would be installed: a package of its own, or
# in older distributions a part of another one.
clang_runtime_packages() {
	local version
	version=$(${CLANG:-clang} -dumpversion 2>/dev/null) ||
		version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')
	version=${version%%.*}
	if has_candidate "libclang-rt-$version-dev"; then
		echo "libclang-rt-$version-dev"
	else
		echo "libclang-common-$version-dev"
	fi
}

# Runs a command with its output kept aside, shown only when it fails.
quietly() {
	if ! "$@" >"$scratch/output" 2>&1 </dev/null; then
		say "failed: $*"
		sed 's/^/    /' "$scratch/output" >&2
		return 1
	fi
}

refresh() {
	case $1 in
	apt-get)
		# A repository that is down must not matter when the others have what is needed.
		quietly apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update ||
			say 'going on with the package lists that are here'
		;;
	pacman) quietly pacman -Sy --noconfirm ;;
	esac
}

# Debian's packages start their daemons when they are installed, unless this program forbids it
# (invoke-rc.d(8)), and have them started at each boot. dnf and pacman do neither.
DAEMON_POLICY=/usr/sbin/policy-rc.d
# Where the administrator's own policy lies while ours is in force.
DAEMON_POLICY_ASIDE=$DAEMON_POLICY.before-connguard
DAEMON_POLICY_MARK='connguard bootstrap: no daemon starts while it installs'

forbidding=

forbid_daemons() {
	# Another such program may be installing: its policy is not ours to take away.
	exec 9>/run/lock/connguard-bootstrap
	flock 9
	forbidding=1
	if [ -e "$DAEMON_POLICY" ] && ! grep -q "$DAEMON_POLICY_MARK" "$DAEMON_POLICY"; then
		mv "$DAEMON_POLICY" "$DAEMON_POLICY_ASIDE"
	fi
	printf '#!/bin/sh\n# %s\nexit 101\n' "$DAEMON_POLICY_MARK" >"$scratch/policy"
	install -m 755 "$scratch/policy" "$DAEMON_POLICY"
}

# Also what a run that was killed in between has left.
allow_daemons() {
	[ -n "$forbidding" ] || return 0
	forbidding=
	if [ -e "$DAEMON_POLICY" ] && grep -q "$DAEMON_POLICY_MARK" "$DAEMON_POLICY"; then
		rm "$DAEMON_POLICY"
	fi
	[ ! -e "$DAEMON_POLICY_ASIDE" ] || mv "$DAEMON_POLICY_ASIDE" "$DAEMON_POLICY"
	exec 9>&-
}

# The packages were not here before: what they would start at boot is of no use to anybody.
disable_daemons_of() {
	local package file
	for package in "$@"; do
		dpkg-query -L "$package" | sed -n 's|^/etc/init\.d/||p' | while read -r file; do
			quietly update-rc.d "$file" disable
		done
		# Some come as units alone.
		dpkg-query -L "$package" |
			sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$#\2#p' |
			while read -r file; do
				quietly env DPKG_MAINTSCRIPT_PACKAGE="$package" deb-systemd-helper disable "$file"
			done
	done
}

# Those of the packages that are not installed.
absent_packages() {
	local package
	for package in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			printf '%s\n' "$package"
	done
}

install_packages() {
	local manager=$1 absent status=0
	shift
	case $manager in
	apt-get)
		mapfile -t absent < <(absent_packages "$@")
		forbid_daemons
		DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 quietly \
			apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
			-o Dpkg::Options::=--force-confold \
			install --no-install-recommends "$@" || status=$?
		allow_daemons
		[ $status -eq 0 ] || return $status
		disable_daemons_of "${absent[@]}"
		;;
	dnf) quietly dnf -q -y --setopt=install_weak_deps=False install "$@" ;;
	pacman) quietly pacman -S --noconfirm --needed "$@" ;;
	esac
}

check_only=
groups=()
for argument in "$@"; do
	case $argument in
	--check) check_only=1 ;;
	--print-bpftool)
		find_bpftool
		exit
		;;
	--print-virtiofsd)
		find_virtiofsd
		exit
		;;
	build | test | demo | lint | vm | fuzz | model | services) groups+=("$argument") ;;
	*)
		say "unknown argument '$argument' (expected --check, --print-bpftool, --print-virtiofsd," \
			'build, test, demo, lint, vm, fuzz, model, services)'
		exit 2
		;;
	esac
done
[ ${#groups[@]} -gt 0 ] || groups=(build)

scratch=$(mktemp -d "${TMPDIR:-/tmp}/connguard-bootstrap.XXXXXX")
trap 'allow_daemons; rm -rf "$scratch"' EXIT

required=$(for group in "${groups[@]}"; do needs_of "$group"; done | missing_of)

if [ -n "$check_only" ]; then
	[ -n "$required" ] || exit 0
	say "missing: $(in_words <<<"$required")"
	say "to install: sudo scripts/bootstrap.sh ${groups[*]}"
	exit 1
fi

optional=$(for group in "${groups[@]}"; do optional_of "$group"; done | missing_of)
[ -n "$required$optional" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! manager=$(package_manager); then
	reason='no package manager that this script knows (apt-get, dnf, pacman)'
	[ "$(id -u)" -eq 0 ] || reason='installing it needs root'
	if [ -n "$required" ]; then
		say "missing: $(in_words <<<"$required"); $reason"
		exit 1
	fi
	say "not here, their tests will be skipped: $(in_words <<<"$optional"); $reason"
	exit 0
fi

say "installing with $manager: $(printf '%s\n' "$required" "$optional" | awk NF | in_words)"
refresh "$manager"

if [ -n "$required" ]; then
	mapfile -t packages < <(packages_for "$manager" <<<"$required")
	install_packages "$manager" "${packages[@]}" || exit 1
	hash -r
	required=$(missing_of <<<"$required")
	if [ -n "$required" ]; then
		say "still missing after installing ${packages[*]}: $(in_words <<<"$required")"
		exit 1
	fi
fi

# One at a time: a runtime that this distribution does not have costs its own test only.
while IFS= read -r need; do
	[ -n "$need" ] || continue
	mapfile -t packages < <(packages_for "$manager" <<<"$need")
	install_packages "$manager" "${packages[@]}" ||
		say "going on without $(in_words <<<"$need"): its test will be skipped"
done <<<"$optional"
