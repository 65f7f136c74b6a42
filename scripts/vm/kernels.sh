#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Finds and unpacks the stock cloud kernels that this machine's distribution serves, by series. Owns
# a private package manager root with sources of its own: the machine's configuration is only read,
# to learn from which host it takes its packages. Knows nothing of what the kernels are for.
#
# usage: kernels.sh refresh DIRECTORY          make the private root, read the package lists
#        kernels.sh fetch DIRECTORY SERIES     unpack the newest kernel of a series ("6.1", or
#                                              "newest") and print its directory, which has
#                                              vmlinuz, release (the text of uname -r), package
#                                              (name and version) and lib/modules/RELEASE
#
# Exit status: 0 done; 1 failed; 3 no suite serves that (any more): the reason is on standard output.
set -eu

STATUS_NOT_SERVED=3

# Where the kernels are: the security suites of these releases and the backports of the last.
SECURITY_RELEASES='bullseye bookworm trixie'
BACKPORTS_RELEASE=trixie

not_served() {
	printf '%s\n' "$*"
	exit $STATUS_NOT_SERVED
}

# suite_uri PATTERN: the address from which this machine takes a suite whose name matches.
suite_uri() {
	# shellcheck disable=SC2016 # the package manager expands these
	apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages' |
		awk -v pattern="^($1)\$" '$1 ~ pattern { print $2; exit }'
}

# The sources of the private root. A suite that its host has no longer costs only its own kernels.
write_sources() {
	local codename release keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	local distribution main security options=

	# shellcheck source=/dev/null
	distribution=$(. /etc/os-release && echo "${ID:-}")
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	if [ "$distribution" != debian ] || ! command -v apt-get >/dev/null; then
		not_served "only Debian's kernels are known here, and this is ${distribution:-something else}"
	fi
	main=$(suite_uri "$codename")
	security=$(suite_uri "$codename-security")
	[ -n "$main$security" ] || not_served 'the package sources of this machine name no suite of its release'
	[ ! -e "$keyring" ] || options="[signed-by=$keyring] "
	if [ -n "$security" ]; then
		for release in $SECURITY_RELEASES; do
			echo "deb $options$security $release-security main"
		done
	fi
	[ -z "$main" ] || echo "deb $options$main $BACKPORTS_RELEASE-backports main"
}

refresh() {
	local sources
	mkdir -p "$apt"/state/lists/partial "$apt"/cache/archives/partial "$apt"/parts "$packages"
	: >"$apt/status"
	cat >"$APT_CONFIG" <<-EOF
		Dir::State "$apt/state";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "$apt/parts";
		Dir::Etc::preferences "$apt/preferences";
		Dir::Etc::preferencesparts "$apt/parts";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "root";
		Acquire::Retries "3";
	EOF
	# Read with the machine's own configuration.
	sources=$(unset APT_CONFIG && write_sources) || {
		printf '%s\n' "$sources"
		exit $STATUS_NOT_SERVED
	}
	printf '%s\n' "$sources" >"$apt/sources.list"
	# What failed is on the screen; lists that could be read count.
	apt-get -q update >"$apt/update.log" 2>&1 || sed 's/^/kernels: /' "$apt/update.log" >&2
}

# Prints "PACKAGE VERSION" of the newest image of a series, nothing when no suite has one.
newest_image() {
	local series=$1 pattern='[0-9]+[.][0-9]+'
	[ "$series" = newest ] || pattern=${series//./[.]}
	apt-cache dumpavail | awk -v pattern="^linux-image-${pattern}[.][0-9][^ ]*-cloud-amd64\$" '
		/^Package: / { package = $2 }
		/^Version: / && package ~ pattern { print package, $2 }' |
		sort -k2,2V | tail -n 1
}

# The packages in which image package $1 (version $2) really lies: itself, and since 7.2 parts of the
# same version, on which it depends.
image_parts() {
	echo "$1=$2"
	apt-cache show "$1=$2" | awk -v version="$2" '
		/^Depends: / {
			count = split(substr($0, 10), depends, ", *")
			for (i = 1; i <= count; i++)
				if (depends[i] ~ /^linux-(binary|modules)-/) {
					split(depends[i], word, " ")
					print word[1] "=" version
				}
		}' | sort -u
}

fetch() {
	local series=$1 image version release kernel part archive vmlinuz unpacked
	local -a parts

	[[ $series =~ ^([0-9]+\.[0-9]+|newest)$ ]] || {
		echo "kernels.sh: '$series' is no series, such as 6.1 or newest" >&2
		return 1
	}
	read -r image version < <(newest_image "$series") ||
		not_served "no suite serves a cloud kernel of the series $series (any more)"
	release=${image#linux-image-}
	kernel=$directory/kernels/$release
	if [ "$(cat "$kernel/package" 2>/dev/null)" = "$image $version" ]; then
		echo "$kernel"
		return 0
	fi
	unpacked=$kernel.new
	rm -rf "$unpacked" "$kernel"
	mkdir -p "$unpacked"
	mapfile -t parts < <(image_parts "$image" "$version")
	(cd "$packages" && apt-get -q download "${parts[@]}") >"$apt/download.log" 2>&1 || {
		sed 's/^/kernels: /' "$apt/download.log" >&2
		return 1
	}
	for part in "${parts[@]}"; do
		# A colon in a version becomes %3a in the file name.
		for archive in "$packages/${part%%=*}"_*_amd64.deb; do
			dpkg-deb -x "$archive" "$unpacked"
			rm "$archive"
		done
	done
	vmlinuz=$(find "$unpacked/boot" "$unpacked/usr/lib/modules" -name 'vmlinuz*' 2>/dev/null | head -n 1)
	[ -n "$vmlinuz" ] || {
		echo "kernels: ${parts[*]} have no kernel image" >&2
		return 1
	}
	cp "$vmlinuz" "$unpacked/vmlinuz"
	if [ ! -d "$unpacked/lib/modules" ]; then
		mkdir -p "$unpacked/lib"
		mv "$unpacked/usr/lib/modules" "$unpacked/lib/modules"
	fi
	rm -rf "${unpacked:?}/boot" "${unpacked:?}/usr"
	# Lists of what is built in, which lie in yet another package since 7.2; depmod asks for them.
	touch "$unpacked/lib/modules/$release"/modules.{order,builtin,builtin.modinfo}
	depmod -b "$unpacked" "$release"
	printf '%s\n' "$release" >"$unpacked/release"
	printf '%s\n' "$image $version" >"$unpacked/package"
	mv "$unpacked" "$kernel"
	echo "$kernel"
}

[ $# -ge 2 ] || {
	echo 'usage: kernels.sh refresh DIRECTORY | fetch DIRECTORY SERIES' >&2
	exit 2
}
verb=$1
mkdir -p "$2"
directory=$(cd "$2" && pwd)
shift 2
apt=$directory/apt
packages=$directory/packages
export APT_CONFIG=$apt/apt.conf
# The tool that makes module lists is an administrator's.
PATH=$PATH:/usr/sbin:/sbin
case $verb in
refresh) refresh ;;
fetch) fetch "$1" ;;
*)
	echo "kernels.sh: unknown verb '$verb'" >&2
	exit 2
	;;
esac
