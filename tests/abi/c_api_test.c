/* libtelemetry as a C program sees it: the header compiles as C, the shared library has what it
 * declares, and an app without a daemon loses nothing but its events. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/telemetry.h"

static int failures = 0;

#define EXPECT(condition)                                             \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                     \
    }                                                                 \
  } while (0)

/* Numbers are stable: programs compiled years ago pass them. */
static void numbers_are_stable(void) {
  EXPECT(TELEMETRY_OK == 0 && TELEMETRY_INVALID == 1 && TELEMETRY_DISABLED == 2);
  EXPECT(TELEMETRY_QUEUE_FULL == 3 && TELEMETRY_TOO_LARGE == 4 && TELEMETRY_TIMEOUT == 5);
  EXPECT(TELEMETRY_CLOSED == 6 && TELEMETRY_NO_MEMORY == 7);
  EXPECT(TELEMETRY_KIND_INIT == 5 && TELEMETRY_CLASS_CRITICAL == 2);
  EXPECT(TELEMETRY_URGENCY_URGENT == 1 && TELEMETRY_VALUE_DOUBLE == 3);
  EXPECT(TELEMETRY_MODE_UNDECIDED == 0 && TELEMETRY_MODE_OFF == 3);
}

static void an_app_without_a_daemon_works(void) {
  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  telemetry_client_t* client = NULL;
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  telemetry_attribute_t attribute;
  telemetry_stats_t stats = TELEMETRY_STATS_INIT;
  options.app = "c-app";
  options.socket_path = "/nonexistent/telemetryd/ingest.sock";
  EXPECT(telemetry_client_open(&options, &client) == TELEMETRY_OK);
  EXPECT(client != NULL);
  memset(&attribute, 0, sizeof attribute);
  attribute.key = "count";
  attribute.type = TELEMETRY_VALUE_INT;
  attribute.value.int_value = 3;
  event.name = "started";
  event.attributes = &attribute;
  event.attribute_count = 1;
  EXPECT(telemetry_track(client, &event) == TELEMETRY_OK);
  EXPECT(telemetry_send(client, &event, 10) == TELEMETRY_OK);
  EXPECT(telemetry_flush(client, 1) == TELEMETRY_TIMEOUT);
  EXPECT(telemetry_client_mode(client, NULL, 0) == TELEMETRY_MODE_UNDECIDED);
  EXPECT(telemetry_client_close(client, 1, &stats) == TELEMETRY_TIMEOUT);
  EXPECT(stats.accepted == 2 && stats.lost_shutdown == 2 && stats.queued == 0);
}

/* A program compiled against an older header passes a shorter struct; nothing behind it may be
 * written. */
static void an_older_struct_is_not_overrun(void) {
  telemetry_stats_t stats;
  const size_t older = offsetof(telemetry_stats_t, queued);
  memset(&stats, 0x5a, sizeof stats);
  stats.size = older;
  EXPECT(telemetry_client_stats(NULL, &stats) == TELEMETRY_OK);
  EXPECT(stats.size == older && stats.accepted == 0);
  EXPECT(stats.queued == 0x5a5a5a5a5a5a5a5aull);
}

int main(void) {
  unsetenv("DO_NOT_TRACK");
  unsetenv("DNT");
  unsetenv("C_APP_TELEMETRY");
  setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
  numbers_are_stable();
  an_app_without_a_daemon_works();
  an_older_struct_is_not_overrun();
  EXPECT(strcmp(telemetry_version(), "0.1.0") == 0);
  return failures == 0 ? 0 : 1;
}
