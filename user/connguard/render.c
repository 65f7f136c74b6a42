/* SPDX-License-Identifier: BSD-2-Clause */
/* Documents as text: see render.h. */
#include "connguard/render.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <connguard/causes.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/printable.h"
#include "pure/names.h"

/* Width of the labels at the left of `status` and `explain`. */
#define LABEL_WIDTH 14
/* Longest text of one cell or of one composed value. */
#define TEXT_MAX 160
#define COLUMNS_MAX 8
/* How many recent events `explain` shows, so that it stays on one screen. */
#define EXPLAIN_EVENTS_MAX 10

/* ---- members ---- */

static const char *text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	return text ? text : "-";
}

static bool is_set(const json_t *object, const char *member)
{
	return json_is_true(json_object_get(object, member));
}

static __u64 number_of(const json_t *object, const char *member)
{
	return (__u64)json_integer_value(json_object_get(object, member));
}

static bool is_present(const json_t *object, const char *member)
{
	const json_t *value = json_object_get(object, member);

	return value && !json_is_null(value);
}

/*
 * A span for a person, at most two units; below a second in whole milliseconds, from a second on in
 * whole seconds.
 */
static const char *span(__u64 span_ns, char ret_text[CLOCK_DURATION_TEXT_MAX])
{
	__u64 unit = span_ns >= 1000000000ULL ? 1000000000ULL : 1000000ULL;

	return clock_duration_format(span_ns / unit * unit, ret_text);
}

/* The time of day at which the boot-time clock showed, or will show, `boot_ns`. */
static const char *time_of_day(__u64 boot_ns, char ret_text[TEXT_MAX])
{
	struct timespec wall;
	struct tm parts;
	__int128 ns;
	time_t seconds;
	size_t length;

	clock_gettime(CLOCK_REALTIME, &wall);
	ns = (__int128)wall.tv_sec * 1000000000 + wall.tv_nsec + boot_ns - clock_now_ns();
	seconds = (time_t)(ns / 1000000000);
	localtime_r(&seconds, &parts);
	length = strftime(ret_text, TEXT_MAX, "%H:%M:%S", &parts);
	snprintf(ret_text + length, TEXT_MAX - length, ".%03d", (int)(ns % 1000000000 / 1000000));
	return ret_text;
}

/* ---- lines with a label, and tables ---- */

/* The rest of a line. What was cut on its way here may have been cut in the middle of a letter. */
static void rest_of_line(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));

static void rest_of_line(const char *format, va_list arguments)
{
	cleanup_free char *text = NULL;

	if (vasprintf(&text, format, arguments) < 0)
		abort();
	puts(text_make_printable(text));
}

static void line(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(const char *label, const char *format, ...)
{
	va_list arguments;

	printf("%-*s", LABEL_WIDTH, label);
	va_start(arguments, format);
	rest_of_line(format, arguments);
	va_end(arguments);
}

static void whole_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void whole_line(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	rest_of_line(format, arguments);
	va_end(arguments);
}

/* Each sentence of an array on a line of its own, the label before the first. */
static void lines(const char *label, const json_t *sentences)
{
	json_t *sentence;
	size_t i;

	json_array_foreach(sentences, i, sentence)
		line(i ? "" : label, "%s", json_string_value(sentence));
}

/*
 * Rows of cells, printed when complete, each column as wide as its widest cell. Aborts when memory
 * runs out: it is a person's terminal, there is nothing to save.
 */
struct table {
	int columns;
	size_t rows;
	char (*cells)[TEXT_MAX];
};

static void table_add(struct table *table, const char *const cells[])
{
	size_t first = table->rows * (size_t)table->columns;
	void *larger = realloc(table->cells,
			       (first + (size_t)table->columns) * sizeof(*table->cells));
	int i;

	if (!larger)
		abort();
	table->cells = larger;
	for (i = 0; i < table->columns; i++) {
		snprintf(table->cells[first + (size_t)i], TEXT_MAX, "%s", cells[i]);
		text_make_printable(table->cells[first + (size_t)i]);
	}
	table->rows++;
}

static void table_print(struct table *table, const char *indent)
{
	int widths[COLUMNS_MAX] = {}, column, width;
	size_t row;

	for (row = 0; row < table->rows; row++) {
		for (column = 0; column < table->columns; column++) {
			width = (int)strlen(table->cells[row * (size_t)table->columns + (size_t)column]);
			if (width > widths[column])
				widths[column] = width;
		}
	}
	for (row = 0; row < table->rows; row++) {
		fputs(indent, stdout);
		for (column = 0; column < table->columns; column++) {
			const char *cell = table->cells[row * (size_t)table->columns + (size_t)column];

			/* Nothing behind the last cell: no line ends in blanks. */
			if (column + 1 == table->columns)
				printf("%s\n", cell);
			else
				printf("%-*s  ", widths[column], cell);
		}
	}
	free(table->cells);
}

/* ---- pieces ---- */

/* The guard has more than one service, which have to be told apart. */
static bool several_services(const json_t *document)
{
	return json_array_size(json_object_get(document, "services")) > 1;
}

static const char *service_text(const json_t *object, char ret_text[TEXT_MAX])
{
	if (!is_present(object, "service"))
		return strcpy(ret_text, "-");
	snprintf(ret_text, TEXT_MAX, "%" PRIu64, (uint64_t)number_of(object, "service"));
	return ret_text;
}

/* "racer (process 12, thread 13)". */
static const char *who(const json_t *object, char ret_text[TEXT_MAX])
{
	__u64 process = number_of(object, "process_id"), thread = number_of(object, "thread_id");
	char threads[32] = "";

	if (!process)
		return strcpy(ret_text, "an unknown process");
	if (thread && thread != process)
		snprintf(threads, sizeof(threads), ", thread %" PRIu64, (uint64_t)thread);
	snprintf(ret_text, TEXT_MAX, "%s (process %" PRIu64 "%s)", text_of(object, "command"),
		 (uint64_t)process, threads);
	return ret_text;
}

/* "10s ago: dial_backoff". */
static const char *last_refusal(const json_t *peer, char ret_text[TEXT_MAX])
{
	const json_t *refusal = json_object_get(peer, "last_refusal");
	char age[CLOCK_DURATION_TEXT_MAX];

	if (!json_is_object(refusal))
		return strcpy(ret_text, "-");
	snprintf(ret_text, TEXT_MAX, "%s, %s ago", text_of(refusal, "cause"),
		 span(number_of(refusal, "age_ns"), age));
	return ret_text;
}

/* "10.0.0.0/8", "10.0.0.0/8, for 11h 59m more". */
static const char *prefix_text(const json_t *prefix, char ret_text[TEXT_MAX])
{
	char left[CLOCK_DURATION_TEXT_MAX];

	if (is_present(prefix, "left_ns"))
		snprintf(ret_text, TEXT_MAX, "%s, for %s more", text_of(prefix, "prefix"),
			 span(number_of(prefix, "left_ns"), left));
	else
		snprintf(ret_text, TEXT_MAX, "%s", text_of(prefix, "prefix"));
	return ret_text;
}

/* ---- status ---- */

static void status_daemon(const json_t *document)
{
	const json_t *daemon = json_object_get(document, "daemon");

	if (is_set(daemon, "running"))
		line("daemon", "running, process %" PRIu64 "%s", (uint64_t)number_of(daemon, "process_id"),
		     is_set(daemon, "alive") ? "" : ", but it gave no sign of life in time");
	else if (number_of(daemon, "process_id"))
		line("daemon", "not running, it was process %" PRIu64,
		     (uint64_t)number_of(daemon, "process_id"));
	else
		line("daemon", "none: loaded without one");
}

/* "net_admin, bpf; access to its own files only; executes, loads and traces nothing". */
static void status_confinement(const json_t *confinement)
{
	char names[TEXT_MAX] = "";
	json_t *name;
	size_t i;

	if (!json_is_object(confinement))
		return;
	json_array_foreach(json_object_get(confinement, "capabilities"), i, name) {
		size_t end = strlen(names);

		snprintf(names + end, sizeof(names) - end, "%s%s", i ? ", " : "", json_string_value(name));
	}
	line("daemon keeps", "%s; %s; %s", *names ? names : "no capability",
	     is_present(confinement, "landlock") ? "access to its own files only" : "access to all files",
	     is_set(confinement, "seccomp") ? "executes, loads and traces nothing" : "all system calls");
}

static void status_policy(const json_t *policy)
{
	char first[CLOCK_DURATION_TEXT_MAX], second[CLOCK_DURATION_TEXT_MAX];

	line("policy", "%" PRIu64 " link(s) a peer; a dial is refused with %s, a knock by %s%s",
	     (uint64_t)number_of(policy, "max_links"), text_of(policy, "refusal_errno"),
	     text_of(policy, "reject_style"),
	     is_set(policy, "set") ? "" : " (built-in: none was written)");
	line("", "tie_break %s, dial_policy %s, adopt %s", text_of(policy, "tie_break"),
	     text_of(policy, "dial_policy"), text_of(policy, "adopt"));
	if (number_of(policy, "liveness_ns"))
		line("", "liveness %s, where the service has no keepalive of its own",
		     clock_duration_format(number_of(policy, "liveness_ns"), first));
	else
		line("", "liveness none: keepalive as the service has it");
	line("", "suspect_after %s, deny_max %s",
	     clock_duration_format(number_of(policy, "suspect_after_ns"), first),
	     clock_duration_format(number_of(policy, "deny_max_ns"), second));
	line("backoff", "from %s to %s; a dial in it is %s",
	     clock_duration_format(number_of(policy, "backoff_initial_ns"), first),
	     clock_duration_format(number_of(policy, "backoff_max_ns"), second),
	     is_set(policy, "keep_dials") ? "kept if the peer was silent, refused if it refused" :
					    "refused");
	line("", "min_uptime %s, stable_after %s",
	     clock_duration_format(number_of(policy, "min_uptime_ns"), first),
	     clock_duration_format(number_of(policy, "stable_after_ns"), second));
	line("", "hold_max %s, claim_max %s",
	     clock_duration_format(number_of(policy, "hold_max_ns"), first),
	     clock_duration_format(number_of(policy, "claim_max_ns"), second));
}

static void status_ports(const json_t *document)
{
	const json_t *ports = json_object_get(document, "ports"), *port;
	char text[TEXT_MAX] = "";
	size_t i;

	json_array_foreach(ports, i, port) {
		size_t end = strlen(text);

		snprintf(text + end, sizeof(text) - end, "%s%" JSON_INTEGER_FORMAT, i ? ", " : "",
			 json_integer_value(port));
	}
	line("ports", "%s%s", text,
	     json_array_size(ports) < 2	 ? "" :
	     several_services(document) ? "; each is a service of its own" :
					  "; they share their limits");
}

static void status_hooks(const json_t *hooks)
{
	char others[TEXT_MAX], program[TEXT_MAX];
	json_t *hook;
	size_t i;

	json_array_foreach(hooks, i, hook) {
		program[0] = others[0] = '\0';
		if (number_of(hook, "program_id"))
			snprintf(program, sizeof(program), ", program %" PRIu64,
				 (uint64_t)number_of(hook, "program_id"));
		if (number_of(hook, "foreign"))
			snprintf(others, sizeof(others), ", beside %" PRIu64 " of others",
				 (uint64_t)number_of(hook, "foreign"));
		line(i ? "" : "hooks", "%-13s%s%s%s", text_of(hook, "name"),
		     !is_set(hook, "attached") ? "NOT ATTACHED" :
		     is_set(hook, "pinned")    ? "attached, pinned" :
						 "attached, not pinned",
		     program, others);
	}
}

static void status_peers(const json_t *peers, __u64 now)
{
	char ago[CLOCK_DURATION_TEXT_MAX], when[CLOCK_DURATION_TEXT_MAX + 24] = "";
	__u64 counted = number_of(peers, "counted_ns");

	/* A large map is counted with each check only. */
	if (json_is_null(json_object_get(peers, "counted_ns")))
		snprintf(when, sizeof(when), ", and more that are being counted");
	else if (counted && counted < now)
		snprintf(when, sizeof(when), " (counted %s ago)", span(now - counted, ago));
	line("peers",
	     "%" PRIu64 " of at most %" PRIu64 ": %" PRIu64 " linked, %" PRIu64 " dialing, %" PRIu64
	     " in backoff, %" PRIu64 " idle, %" PRIu64 " exempt%s",
	     (uint64_t)number_of(peers, "count"), (uint64_t)number_of(peers, "max"),
	     (uint64_t)number_of(peers, "linked"), (uint64_t)number_of(peers, "dialing"),
	     (uint64_t)number_of(peers, "backoff"), (uint64_t)number_of(peers, "idle"),
	     (uint64_t)number_of(peers, "exempt"), when);
}

/* What operators have decided and not taken back. */
static void status_decided(const json_t *decided)
{
	__u64 limits = number_of(decided, "limits"), allowed = number_of(decided, "allowed");
	const json_t *mode = json_object_get(decided, "mode");
	char text[TEXT_MAX] = "";

	if (json_is_object(mode))
		snprintf(text, sizeof(text), "mode %.32s; ", text_of(mode, "mode"));
	if (*text || limits || allowed)
		line("decided", "%sa limit of %" PRIu64 " peer(s), %" PRIu64 " allowed for good", text,
		     (uint64_t)limits, (uint64_t)allowed);
}

static void status_exempt(const json_t *prefixes, const json_t *own)
{
	char text[TEXT_MAX];
	json_t *prefix;
	size_t i;

	json_array_foreach(prefixes, i, prefix)
		line(i ? "" : "exempt", "%s", prefix_text(prefix, text));
	line(json_array_size(prefixes) ? "" : "exempt", "this host, by %" PRIu64 " address(es) or prefixes",
	     (uint64_t)number_of(own, "count"));
}

static void status_counters(const json_t *counters)
{
	const json_t *enforced = json_object_get(counters, "enforced");
	const json_t *observed = json_object_get(counters, "observed");
	struct table table = { .columns = 4 };
	char happened[24], would[24];
	int cause;

	table_add(&table, (const char *const[]){ "COUNTED", "HAPPENED", "OBSERVED ONLY", "MEANING" });
	for (cause = 0; cause < CAUSE_COUNT; cause++) {
		const char *name = names_cause(cause);

		if (!is_present(enforced, name) && !is_present(observed, name))
			continue;
		snprintf(happened, sizeof(happened), "%" PRIu64, (uint64_t)number_of(enforced, name));
		snprintf(would, sizeof(would), "%" PRIu64, (uint64_t)number_of(observed, name));
		table_add(&table, (const char *const[]){ name, happened, would, names_cause_text(cause) });
	}
	if (table.rows == 1) {
		free(table.cells);
		return;
	}
	putchar('\n');
	table_print(&table, "");
}

void render_status(const json_t *document)
{
	const json_t *problems = json_object_get(document, "problems");

	line("guard", "%s: %s", text_of(document, "name"),
	     is_set(document, "healthy") ? "whole" : "NOT WHOLE");
	lines("problems", problems);
	lines("notes", json_object_get(document, "notes"));
	line("mode", "%s", text_of(document, "mode"));
	if (is_present(document, "waits_for"))
		line("cgroup", "waiting for %s", text_of(document, "waits_for"));
	else
		line("cgroup", "%s", text_of(document, "cgroup"));
	status_ports(document);
	status_daemon(document);
	status_confinement(json_object_get(document, "confinement"));
	status_hooks(json_object_get(document, "hooks"));
	status_peers(json_object_get(document, "peers"), number_of(document, "now_ns"));
	status_policy(json_object_get(document, "policy"));
	status_decided(json_object_get(document, "decided"));
	status_exempt(json_object_get(document, "exempt_prefixes"), json_object_get(document, "own"));
	status_counters(json_object_get(document, "counters"));
}

/* ---- peers ---- */

/* What sets a link or a claim apart, or nothing. */
static const char *slot_remark(const json_t *slot)
{
	const char *life = text_of(slot, "life");

	if (is_set(slot, "doomed"))
		return ", being destroyed";
	if (is_set(slot, "kept"))
		return ", kept";
	if (is_set(slot, "given_up"))
		return ", given up";
	return strcmp(life, "unanswered") == 0 ? ", unanswered" :
	       strcmp(life, "stranded") == 0   ? ", own address gone" :
	       strcmp(life, "asked") == 0      ? ", being asked" :
	       strcmp(life, "doubted") == 0    ? ", in doubt" :
						 "";
}

/* The links, or the claim, of a peer in one cell: "inbound 3m 2s, racer (process 12)". */
static const char *slots_cell(const json_t *peer, char ret_text[TEXT_MAX])
{
	const json_t *slots = json_object_get(peer, "links");
	char age[CLOCK_DURATION_TEXT_MAX], holder[TEXT_MAX], more[24] = "";
	const json_t *slot;

	if (!json_array_size(slots))
		slots = json_object_get(peer, "claims");
	slot = json_array_get(slots, 0);
	if (!slot)
		return strcpy(ret_text, "-");
	if (json_array_size(slots) > 1)
		snprintf(more, sizeof(more), ", and %zu more", json_array_size(slots) - 1);
	snprintf(ret_text, TEXT_MAX, "%s %s, %.70s%s%s", text_of(slot, "direction"),
		 span(number_of(slot, "age_ns"), age), who(slot, holder), slot_remark(slot), more);
	return ret_text;
}

static const char *backoff_cell(const json_t *peer, char ret_text[TEXT_MAX])
{
	char left[CLOCK_DURATION_TEXT_MAX];

	if (is_present(peer, "backoff_left_ns"))
		snprintf(ret_text, TEXT_MAX, "%s left, %" PRIu64 " failed%s%s",
			 span(number_of(peer, "backoff_left_ns"), left),
			 (uint64_t)number_of(peer, "attempts"),
			 is_present(peer, "failure_sentence") ? ": " : "",
			 is_present(peer, "failure_sentence") ? text_of(peer, "failure_sentence") : "");
	else if (number_of(peer, "attempts"))
		snprintf(ret_text, TEXT_MAX, "over, %" PRIu64 " failed",
			 (uint64_t)number_of(peer, "attempts"));
	else
		strcpy(ret_text, "-");
	return ret_text;
}

void render_peers(const json_t *document)
{
	static const char *const head[] = { "PORT", "PEER", "STATE", "LINK OR CLAIM", "BACKOFF",
					    "DIALS REFUSED", "KNOCKS REFUSED", "LAST REFUSAL" };
	const json_t *peers = json_object_get(document, "peers"), *peer;
	struct table table = { .columns = sizeof(head) / sizeof(*head) };
	char slots[TEXT_MAX], backoff[TEXT_MAX], dials[24], knocks[24], last[TEXT_MAX];
	char state[TEXT_MAX], port[TEXT_MAX];
	bool several = several_services(document);
	size_t i;

	if (!json_array_size(peers)) {
		whole_line("guard '%s' knows no peer yet", text_of(document, "name"));
		return;
	}
	/* The port comes first, to be left out where there is one service. */
	table.columns -= !several;
	table_add(&table, head + !several);
	json_array_foreach(peers, i, peer) {
		bool exempt = is_present(peer, "exempt") && strcmp(text_of(peer, "state"), "exempt");

		snprintf(state, sizeof(state), "%s%s", text_of(peer, "state"), exempt ? ", exempt" : "");
		snprintf(dials, sizeof(dials), "%" PRIu64, (uint64_t)number_of(peer, "refused_dials"));
		snprintf(knocks, sizeof(knocks), "%" PRIu64, (uint64_t)number_of(peer, "refused_knocks"));
		const char *const row[] = { service_text(peer, port), text_of(peer, "address"), state,
					    slots_cell(peer, slots), backoff_cell(peer, backoff), dials,
					    knocks, last_refusal(peer, last) };

		table_add(&table, row + !several);
	}
	table_print(&table, "");
}

/* ---- explain ---- */

/* "passes", "is REFUSED" or, where it passes although the rules are against it, "passes; enforcing, it would be". */
static const char *verdict_text(const json_t *decision, char ret_text[TEXT_MAX])
{
	bool refuses = !strcmp(text_of(decision, "verdict"), "refuse");
	bool dials = !strncmp(text_of(decision, "cause"), "dial_", strlen("dial_"));
	const char *what = refuses ? "REFUSED" : dials ? "KEPT" : "HELD";

	if (!strcmp(text_of(decision, "verdict"), "allow"))
		return strcpy(ret_text, "passes");
	snprintf(ret_text, TEXT_MAX, "%s %s",
		 is_set(decision, "passes") ? "passes; enforcing, it would be" : "is", what);
	return ret_text;
}

static void explain_decision(const char *label, const json_t *decision)
{
	char left[CLOCK_DURATION_TEXT_MAX], clock[TEXT_MAX], verdict[TEXT_MAX];

	line(label, "%s: %s (%s)", verdict_text(decision, verdict), text_of(decision, "sentence"),
	     text_of(decision, "cause"));
	if (!is_present(decision, "left_ns"))
		return;
	span(number_of(decision, "left_ns"), left);
	time_of_day(number_of(decision, "until_ns"), clock);
	if (!strcmp(text_of(decision, "cause"), "dial_kept"))
		line("", "its SYN leaves in %s, at %s", left, clock);
	else
		line("", "for %s more at most, until %s", left, clock);
}

/* "quiet, being asked, for 2s at most; last sign of life 4s ago" */
static void explain_life(const json_t *link)
{
	char age[CLOCK_DURATION_TEXT_MAX], left[CLOCK_DURATION_TEXT_MAX], limit[TEXT_MAX] = "";
	__u64 until_ns = number_of(link, "life_until_ns"), now_ns = clock_now_ns();

	if (until_ns > now_ns)
		snprintf(limit, sizeof(limit), ", for %s at most", span(until_ns - now_ns, left));
	line("", "%s%s; last sign of life %s ago%s", text_of(link, "life_sentence"), limit,
	     span(number_of(link, "silent_ns"), age),
	     is_present(link, "stalled_ns") ? ", and what it sent before is missing" : "");
}

static void explain_dial(const json_t *claim)
{
	char syns[TEXT_MAX] = "";

	if (number_of(claim, "syns"))
		snprintf(syns, sizeof(syns), "%" PRIu64 " SYN(s) of it have left", (uint64_t)number_of(claim, "syns"));
	if (is_set(claim, "kept"))
		line("", "KEPT: its SYN waits for the end of the backoff, or for what becomes of the new link");
	else if (is_set(claim, "given_up"))
		line("", "given up: a knock of the peer goes first");
	else if (is_set(claim, "answered"))
		line("", "answered, and the answer was held: a link or a knock of the peer goes first");
	else if (*syns)
		line("", "%s, no answer yet", syns);
}

static void explain_slots(const char *label, const json_t *slots)
{
	char age[CLOCK_DURATION_TEXT_MAX], clock[TEXT_MAX], holder[TEXT_MAX];
	const json_t *slot;
	size_t i;

	json_array_foreach(slots, i, slot) {
		bool inbound = !strcmp(text_of(slot, "direction"), "inbound");

		line(i ? "" : label, "%s, held by %s", text_of(slot, "direction"), who(slot, holder));
		line("", "%s %s ago (%s), our port %" PRIu64 " %s their port %" PRIu64 "%s%s",
		     is_set(slot, "adopted") ? "known since" : "since",
		     span(number_of(slot, "age_ns"), age),
		     time_of_day(number_of(slot, "since_ns"), clock),
		     (uint64_t)number_of(slot, "local_port"), inbound ? "<-" : "->",
		     (uint64_t)number_of(slot, "remote_port"),
		     is_set(slot, "surplus") ? ", older than the guard, then one too many" :
		     is_set(slot, "adopted") ? ", older than the guard" : "",
		     is_set(slot, "doomed") ? ", a link too many: being destroyed" : "");
		if (is_present(slot, "life"))
			explain_life(slot);
		else
			explain_dial(slot);
	}
}

/* What a backoff follows from, and when it is over. */
static void explain_backoff(const json_t *peer)
{
	char left[CLOCK_DURATION_TEXT_MAX], ago[TEXT_MAX] = "", clock[TEXT_MAX];
	__u64 attempts = number_of(peer, "attempts"), failed_ns = number_of(peer, "failed_ns");

	if (!is_present(peer, "backoff_left_ns")) {
		line("backoff", "none%s", attempts ? "; failures count until a link has been stable" : "");
		return;
	}
	if (failed_ns)
		snprintf(ago, sizeof(ago), ", at %.32s", time_of_day(failed_ns, clock));
	line("backoff", "after %" PRIu64 " failure%s in a row, the last: %s%s", (uint64_t)attempts,
	     attempts == 1 ? "" : "s", text_of(peer, "failure_sentence"), ago);
	line("", "over in %s, at %s, or with any sign of life",
	     span(number_of(peer, "backoff_left_ns"), left),
	     time_of_day(number_of(peer, "next_attempt_ns"), clock));
}

/* Where the peer stands at each service; the page is about one of them. */
static void explain_services(const json_t *document)
{
	const json_t *services = json_object_get(document, "services"), *at;
	char port[TEXT_MAX];
	size_t i;

	if (!several_services(document))
		return;
	json_array_foreach(services, i, at) {
		bool here = json_equal(json_object_get(at, "service"), json_object_get(document, "service"));

		line(i ? "" : "services", "%s: %s%s%s", service_text(at, port),
		     is_set(at, "known_to_guard") ? text_of(at, "state") : "unknown to the guard",
		     is_set(at, "refused") ? ", a dial or a knock would not pass" : "",
		     here ? "; more below" : "");
	}
}

static void explain_peer(const json_t *peer)
{
	const json_t *exempt = json_object_get(peer, "exempt");
	char text[TEXT_MAX], span_text[CLOCK_DURATION_TEXT_MAX], named[64] = "";

	explain_slots("links", json_object_get(peer, "links"));
	explain_slots("claims", json_object_get(peer, "claims"));
	explain_backoff(peer);
	if (is_present(peer, "decided_limit") && is_present(peer, "named_limit"))
		snprintf(named, sizeof(named), " (the peers file says %" PRIu64 ")",
			 (uint64_t)number_of(peer, "named_limit"));
	line("limit", "%" PRIu64 " link(s)%s%s%s", (uint64_t)number_of(peer, "limit"),
	     is_present(peer, "own_limit") ? ", for this peer alone" : "",
	     is_present(peer, "decided_limit") ? ", by an operator's decision" :
	     is_present(peer, "named_limit")   ? ", by the peers file" :
						 "", named);
	if (json_is_object(exempt) && is_present(exempt, "left_ns"))
		line("exempt", "for %s more", span(number_of(exempt, "left_ns"), span_text));
	else if (json_is_object(exempt))
		line("exempt", "for good");
	if (is_set(peer, "due"))
		line("due", "yes: it may be dialed");
	line("known", "%s", is_set(peer, "known")  ? "named in the peers file" :
			    is_set(peer, "dialed") ? "learned: it was dialed" :
						     "learned: it knocked, or its link was found");
	line("refused", "%" PRIu64 " dial(s), %" PRIu64 " knock(s); last: %s",
	     (uint64_t)number_of(peer, "refused_dials"), (uint64_t)number_of(peer, "refused_knocks"),
	     last_refusal(peer, text));
}

/* An event without its peer, which the page is about: "dial_linked, refused: the peer is linked, by ...". */
static const char *event_text(const json_t *event, char ret_text[TEXT_MAX * 3])
{
	char holder[TEXT_MAX], until[TEXT_MAX] = "", by[TEXT_MAX + 8] = "", clock[TEXT_MAX];
	char detail[TEXT_MAX + 4] = "";

	if (number_of(event, "process_id"))
		snprintf(by, sizeof(by), ", by %s", who(event, holder));
	if (is_present(event, "until_ns"))
		snprintf(until, sizeof(until), ", until %.32s",
			 time_of_day(number_of(event, "until_ns"), clock));
	if (is_present(event, "detail"))
		snprintf(detail, sizeof(detail), " (%s)", text_of(event, "detail"));
	snprintf(ret_text, TEXT_MAX * 3, "%s%s%s: %s%s%s%s", text_of(event, "cause"),
		 is_present(event, "outcome") ? ", " : "",
		 is_present(event, "outcome") ? text_of(event, "outcome") : "",
		 text_of(event, "sentence"), detail, until, by);
	return ret_text;
}

void render_explain(const json_t *document)
{
	const json_t *peer = json_object_get(document, "peer"), *prefix, *event;
	const json_t *events = json_object_get(document, "events");
	size_t i, count = json_array_size(events);
	char text[TEXT_MAX * 3], clock[TEXT_MAX], port[32] = "";

	if (several_services(document))
		snprintf(port, sizeof(port), " port %.16s", service_text(document, text));
	line("peer", "%s%s: %s (guard '%s', mode %s)", text_of(document, "address"), port,
	     json_is_object(peer) ? text_of(peer, "state") : "unknown to the guard",
	     text_of(document, "name"), text_of(document, "mode"));
	explain_services(document);
	explain_decision("our dial", json_object_get(document, "dial"));
	explain_decision("their knock", json_object_get(document, "knock"));
	lines("note", json_object_get(document, "notes"));
	json_array_foreach(json_object_get(document, "exempt_prefixes"), i, prefix)
		line(i ? "" : "exempt by", "%s%s", prefix_text(prefix, text),
		     is_set(prefix, "own") ? ", an address of this host" : "");
	if (json_is_object(peer))
		explain_peer(peer);
	for (i = count > EXPLAIN_EVENTS_MAX ? count - EXPLAIN_EVENTS_MAX : 0; i < count; i++) {
		event = json_array_get(events, i);
		line(i + EXPLAIN_EVENTS_MAX <= count || i == 0 ? "lately" : "", "%s  %s",
		     time_of_day(number_of(event, "time_ns"), clock), event_text(event, text));
	}
}

/* ---- events and due ---- */

/* Whom an event is about. */
static const char *event_peer(const json_t *event)
{
	return is_present(event, "address") ? text_of(event, "address") : "(all peers)";
}

static void event_line(const json_t *event)
{
	char text[TEXT_MAX * 3], clock[TEXT_MAX];

	whole_line("%s  %-15s  %s", time_of_day(number_of(event, "time_ns"), clock), event_peer(event),
	       event_text(event, text));
}

static void event_line_with_port(const json_t *event)
{
	char text[TEXT_MAX * 3], clock[TEXT_MAX], port[TEXT_MAX];

	whole_line("%s  %-15s %5s  %s", time_of_day(number_of(event, "time_ns"), clock), event_peer(event),
	       service_text(event, port), event_text(event, text));
}

void (*render_event_of(const json_t *document))(const json_t *event)
{
	return several_services(document) ? event_line_with_port : event_line;
}

void render_events(const json_t *document)
{
	const json_t *events = json_object_get(document, "events"), *event;
	size_t i;

	if (!json_array_size(events))
		whole_line("guard '%s': no event", text_of(document, "name"));
	json_array_foreach(events, i, event)
		render_event_of(document)(event);
}

/* `port`: " port N", or "". */
static void due_line_at(const json_t *peer, const char *port)
{
	whole_line("%s%s  %" PRIu64 " failed%s", text_of(peer, "address"), port,
	       (uint64_t)number_of(peer, "attempts"), is_set(peer, "known") ? "  known" : "");
}

static void due_line(const json_t *peer)
{
	due_line_at(peer, "");
}

static void due_line_with_port(const json_t *peer)
{
	char text[TEXT_MAX], port[32];

	snprintf(port, sizeof(port), " port %.16s", service_text(peer, text));
	due_line_at(peer, port);
}

void (*render_due_peer_of(const json_t *document))(const json_t *peer)
{
	return several_services(document) ? due_line_with_port : due_line;
}

void render_due(const json_t *document)
{
	const json_t *due = json_object_get(document, "due"), *peer;
	size_t i;

	if (!json_array_size(due))
		whole_line("guard '%s': no peer is due", text_of(document, "name"));
	json_array_foreach(due, i, peer)
		render_due_peer_of(document)(peer);
}
