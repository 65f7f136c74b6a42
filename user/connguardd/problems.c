// SPDX-License-Identifier: BSD-2-Clause
/* What is wrong beyond what the maps show, for as long as it is: see daemon.h. */
#include "connguardd/daemon.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

void problem_set(struct daemon *daemon, enum problem problem, const char *format, ...)
{
	char *text = daemon->problems[problem];
	bool is_new = !*text;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(daemon->problems[problem]), format, arguments);
	va_end(arguments);
	/* Once when it begins: it may be set again every second. */
	if (is_new)
		log_warning("%s", text);
}

void problem_clear(struct daemon *daemon, enum problem problem)
{
	char *text = daemon->problems[problem];

	if (*text)
		log_info("over: %s", text);
	*text = '\0';
}

size_t problems_list(const struct daemon *daemon, const char *ret_texts[PROBLEM_COUNT])
{
	size_t count = 0;

	for (int i = 0; i < PROBLEM_COUNT; i++)
		if (*daemon->problems[i])
			ret_texts[count++] = daemon->problems[i];
	return count;
}
