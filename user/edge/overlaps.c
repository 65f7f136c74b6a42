// SPDX-License-Identifier: BSD-2-Clause
/* Guards beside each other. See overlaps.h. */
#include "edge/overlaps.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Where a guard is, and at which ports. */
struct extent {
	char *cgroup;
	__u32 netns_inode; /* 0: any network namespace */
	__u16 ports[GUARD_PORTS_MAX];
	size_t port_count;
};

static void extent_free(struct extent *extent)
{
	free(extent->cgroup);
}

#define cleanup_extent __attribute__((cleanup(extent_free)))

static int extent_read(const struct guard *guard, struct extent *ret_extent)
{
	struct guard_policy policy;
	int result = guard_policy_read(guard, &policy);

	if (!result)
		result = guard_ports_read(guard, ret_extent->ports, GUARD_PORTS_MAX, &ret_extent->port_count);
	if (!result)
		result = guard_cgroup(guard, &ret_extent->cgroup);
	if (!result)
		ret_extent->netns_inode = policy.netns_inode;
	return result;
}

/* Is the cgroup `inner` the cgroup `outer`, or below it? */
static bool contains(const char *outer, const char *inner)
{
	size_t length = strlen(outer);

	return !strncmp(outer, inner, length) &&
	       (!inner[length] || inner[length] == '/' || (length && outer[length - 1] == '/'));
}

static bool same_place(const struct extent *one, const struct extent *other)
{
	return (one->netns_inode == other->netns_inode || !one->netns_inode || !other->netns_inode) &&
	       (contains(one->cgroup, other->cgroup) || contains(other->cgroup, one->cgroup));
}

static void share_ports(const struct extent *one, const struct extent *other, struct overlap *overlap)
{
	for (size_t i = 0, j = 0; i < one->port_count && j < other->port_count;) {
		if (one->ports[i] == other->ports[j])
			overlap->ports[overlap->port_count++] = one->ports[i];
		if (one->ports[i] <= other->ports[j])
			i++;
		else
			j++;
	}
}

static void guard_close_pointer(struct guard **guard)
{
	guard_close(*guard);
}

/* What the guard of this name shares with ours; without a port: nothing. */
static int compare(const struct extent *ours, const char *name, struct overlap *ret_overlap)
{
	struct guard *guard __attribute__((cleanup(guard_close_pointer))) = NULL;
	cleanup_extent struct extent theirs = {};
	int result = guard_peek(name, &guard);

	if (!result)
		result = extent_read(guard, &theirs);
	/* No guard, not yet or not any more, one of another version, or one whose cgroup is gone. */
	if (result)
		return result == -ENOMEM ? result : 0;
	if (!same_place(ours, &theirs))
		return 0;
	share_ports(ours, &theirs, ret_overlap);
	snprintf(ret_overlap->name, sizeof(ret_overlap->name), "%.*s", GUARD_NAME_MAX, name);
	ret_overlap->cgroup = take_pointer(theirs.cgroup);
	return 0;
}

static int add(struct overlap **overlaps, size_t *count, const struct extent *ours, const char *name)
{
	struct overlap overlap = {}, *longer;
	int result = compare(ours, name, &overlap);

	if (result || !overlap.port_count) {
		free(overlap.cgroup);
		return result;
	}
	longer = realloc(*overlaps, (*count + 1) * sizeof(*longer));
	if (!longer) {
		free(overlap.cgroup);
		return -ENOMEM;
	}
	*overlaps = longer;
	longer[(*count)++] = overlap;
	return 0;
}

static int by_name(const void *left, const void *right)
{
	const struct overlap *one = left, *other = right;

	return strcmp(one->name, other->name);
}

int overlaps_find(const struct guard *guard, const char *name, struct overlap **ret_overlaps, size_t *ret_count)
{
	cleanup_extent struct extent ours = {};
	struct overlap *overlaps = NULL;
	struct dirent *entry;
	size_t count = 0;
	int result = extent_read(guard, &ours);
	DIR *pins;

	*ret_overlaps = NULL;
	*ret_count = 0;
	/* Nothing is guarded just now, so nobody guards it too. */
	if (result)
		return result == -ENOENT ? 0 : result;
	pins = opendir(PIN_ROOT);
	if (!pins)
		return errno == ENOENT ? 0 : -errno;
	while (!result && (entry = readdir(pins)))
		if (guard_name_valid(entry->d_name) && strcmp(entry->d_name, name))
			result = add(&overlaps, &count, &ours, entry->d_name);
	closedir(pins);
	if (result) {
		overlaps_free(overlaps, count);
		return result;
	}
	if (count)
		qsort(overlaps, count, sizeof(*overlaps), by_name);
	*ret_overlaps = overlaps;
	*ret_count = count;
	return 0;
}

void overlaps_free(struct overlap *overlaps, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(overlaps[i].cgroup);
	free(overlaps);
}

const char *overlap_ports_text(const struct overlap *overlap, char ret_text[OVERLAP_PORTS_TEXT_MAX])
{
	size_t end = 0;

	*ret_text = '\0';
	for (size_t i = 0; i < overlap->port_count; i++)
		end += (size_t)snprintf(ret_text + end, OVERLAP_PORTS_TEXT_MAX - end, "%s%u", i ? ", " : "",
					overlap->ports[i]);
	return ret_text;
}
