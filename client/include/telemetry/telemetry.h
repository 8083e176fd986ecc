/*
 * telemetry/telemetry.h: the C interface of libtelemetry, the client of telemetryd.
 *
 * An app opens one client, tracks events from any thread, and closes the client before it exits.
 * Events travel to the local daemon, which stores them durably before it acknowledges them.
 * Nothing here throws, aborts, logs, or waits longer than a deadline that the caller named.
 *
 * Conventions, said once for all functions:
 *  1. Strings are UTF-8, NUL-terminated, owned by the caller and only read during the call.
 *     A null string means absent.
 *  2. Structs begin with `size`, set by their _INIT macro. A newer library reads an older struct.
 *  3. A null client is allowed everywhere and does nothing: an app may run without telemetry.
 *     So is a client that is off; telemetry_track() then costs a load and a branch.
 *  4. Every function may be called from every thread unless its comment says otherwise. None may be
 *     called from a signal handler.
 *  5. Deadlines are in milliseconds from now. 0 means "do not wait".
 *  6. After fork() the child's copy of a client is a new instance without events; the parent's
 *     events are sent by the parent alone. The child's sender starts with its first event.
 */
#ifndef TELEMETRY_TELEMETRY_H
#define TELEMETRY_TELEMETRY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TELEMETRY_API __attribute__((visibility("default")))
#else
#define TELEMETRY_API
#endif

/* The `size` member set and the rest zero, without a compiler's remark about the rest. */
#ifdef __cplusplus
#define TELEMETRY_INIT_(type) {sizeof(type)}
#else
#define TELEMETRY_INIT_(type) {.size = sizeof(type)}
#endif

typedef struct telemetry_client telemetry_client_t;

/* Numbers are stable. */
typedef enum telemetry_status {
  TELEMETRY_OK = 0,
  TELEMETRY_INVALID = 1,    /* an argument breaks a rule below; it will again */
  TELEMETRY_DISABLED = 2,   /* collection is off; telemetry_client_mode() names the rule */
  TELEMETRY_QUEUE_FULL = 3, /* the event was dropped and counted */
  TELEMETRY_TOO_LARGE = 4,  /* the encoded event is above event_bytes_max; dropped and counted */
  TELEMETRY_TIMEOUT = 5,    /* the deadline passed; what was asked for goes on in the background */
  TELEMETRY_CLOSED = 6,     /* the client is closing */
  TELEMETRY_NO_MEMORY = 7   /* memory or a thread could not be had */
} telemetry_status_t;

/* What an event is; the values are those of telemetry.v1.EventKind. */
typedef enum telemetry_kind {
  TELEMETRY_KIND_EVENT = 0,
  TELEMETRY_KIND_COMMAND = 1,
  TELEMETRY_KIND_FEATURE = 2,
  TELEMETRY_KIND_METRIC = 3,
  TELEMETRY_KIND_ERROR = 4,
  TELEMETRY_KIND_INIT = 5
} telemetry_kind_t;

typedef enum telemetry_urgency {
  TELEMETRY_URGENCY_NORMAL = 0,
  TELEMETRY_URGENCY_URGENT = 1 /* sync now rather than at the next interval */
} telemetry_urgency_t;

typedef enum telemetry_class {
  TELEMETRY_CLASS_NORMAL = 0,
  TELEMETRY_CLASS_LOW = 1,     /* evicted first when the store is full */
  TELEMETRY_CLASS_CRITICAL = 2 /* evicted last */
} telemetry_class_t;

typedef enum telemetry_value_type {
  TELEMETRY_VALUE_STRING = 0,
  TELEMETRY_VALUE_BOOL = 1,
  TELEMETRY_VALUE_INT = 2,
  TELEMETRY_VALUE_DOUBLE = 3
} telemetry_value_type_t;

/* A typed attribute. `key` is 1 to 256 bytes. `string_size` is used for strings when it is not 0,
 * so that a value need not be NUL-terminated. */
typedef struct telemetry_attribute {
  const char* key;
  telemetry_value_type_t type;

  union {
    const char* string_value;
    int bool_value;
    int64_t int_value;
    double double_value;
  } value;

  size_t string_size;
} telemetry_attribute_t;

#define TELEMETRY_HAS_SUCCESS 1u
#define TELEMETRY_HAS_DURATION 2u
#define TELEMETRY_HAS_EXIT_CODE 4u

/* One event. `name` is required, 1 to 256 bytes. Everything else may stay zero. */
typedef struct telemetry_event {
  size_t size;
  const char* name;
  const char* category;
  telemetry_kind_t kind;
  telemetry_urgency_t urgency;
  telemetry_class_t persistence_class;
  uint32_t severity; /* OpenTelemetry severity number, 1 to 24; 0 is unspecified */
  uint32_t has;      /* TELEMETRY_HAS_* for the next three */
  int success;
  double duration_ms;
  int32_t exit_code;
  const char* user_id;
  const char* error_name; /* error details are sent when any of these five is set */
  const char* error_code;
  const char* error_id;
  const char* error_message;
  const char* error_stack;
  const telemetry_attribute_t* attributes;
  size_t attribute_count;  /* at most 128 */
  uint64_t time_unix_nano; /* 0: now */
  const uint8_t* id;       /* 16 bytes, UUIDv7; null: made here */
} telemetry_event_t;

#define TELEMETRY_EVENT_INIT TELEMETRY_INIT_(telemetry_event_t)

/* How to open a client. `app` is required: 1 to 64 of a-z 0-9 _ -. Zero means the default. */
typedef struct telemetry_options {
  size_t size;
  const char* app;
  const char* app_version;
  const char* language; /* default "c" */
  const char* environment;
  const char* project;
  const char* socket_path;  /* default: TELEMETRYD_SOCKET, then the system path, then the user's */
  uint32_t queue_bytes_max; /* ring between threads and sender; default 1 MiB, rounded up to a power
                               of two, at most 256 MiB */
  uint32_t unacked_bytes_max;  /* frames kept until acknowledged; default 8 MiB */
  uint32_t frame_bytes_target; /* a frame is closed at this size; default 64 KiB, at most 1 MiB */
} telemetry_options_t;

#define TELEMETRY_OPTIONS_INIT TELEMETRY_INIT_(telemetry_options_t)

/* Counters since the client was opened (since fork, in a child). Unit: events, unless named.
 * accepted = acknowledged + refused + lost_* + still queued or in flight. */
typedef struct telemetry_stats {
  size_t size;
  uint64_t accepted;           /* taken by track or send */
  uint64_t acknowledged;       /* durable in the daemon */
  uint64_t refused;            /* refused for good by the daemon */
  uint64_t dropped_queue_full; /* never accepted: the ring was full */
  uint64_t dropped_too_large;  /* never accepted */
  uint64_t dropped_invalid;    /* never accepted */
  uint64_t dropped_disabled;   /* never accepted: collection is off */
  uint64_t lost_shutdown;      /* accepted, but not acknowledged when close gave up */
  uint64_t queued;             /* accepted and not settled yet */
  uint64_t frames_sent;        /* unit: frames, repetitions included */
  uint64_t frames_resent;      /* unit: frames */
  uint64_t reconnects;         /* unit: connections after the first */
} telemetry_stats_t;

#define TELEMETRY_STATS_INIT TELEMETRY_INIT_(telemetry_stats_t)

typedef enum telemetry_mode {
  TELEMETRY_MODE_UNDECIDED = 0, /* no daemon has answered yet */
  TELEMETRY_MODE_ON = 1,
  TELEMETRY_MODE_LOCAL = 2, /* stored on this machine, never sent */
  TELEMETRY_MODE_OFF = 3
} telemetry_mode_t;

/* Opens a client. It returns without connecting: the sender thread does that. When the environment
 * or the user's consent file says off, *client is a client that is off: no thread, no socket, no
 * id, and the status is TELEMETRY_OK. Fails with INVALID (options) or NO_MEMORY; *client is then
 * null. */
TELEMETRY_API telemetry_status_t telemetry_client_open(const telemetry_options_t* options,
                                                       telemetry_client_t** client);

/* Flushes for up to `deadline_ms`, says goodbye, stops the sender and frees the client. Events
 * not acknowledged by then are counted as lost_shutdown in `final_stats`, which may be null. No
 * other call on this client may run or follow. */
TELEMETRY_API telemetry_status_t telemetry_client_close(telemetry_client_t* client,
                                                        uint32_t deadline_ms,
                                                        telemetry_stats_t* final_stats);

/* Records an event. Never waits and never allocates; makes no system call unless the sender
 * sleeps, then one. Returns OK, INVALID, DISABLED, QUEUE_FULL, TOO_LARGE or CLOSED. */
TELEMETRY_API telemetry_status_t telemetry_track(telemetry_client_t* client,
                                                 const telemetry_event_t* event);

/* Records an event, waiting up to `deadline_ms` for room in the queue: for bulk work that must
 * not drop. TIMEOUT: the event was not recorded and not counted as dropped. */
TELEMETRY_API telemetry_status_t telemetry_send(telemetry_client_t* client,
                                                const telemetry_event_t* event,
                                                uint32_t deadline_ms);

/* Waits until every event recorded before the call is settled: durable in the daemon, or refused
 * for good and counted. Asks the daemon not to delay the commit. */
TELEMETRY_API telemetry_status_t telemetry_flush(telemetry_client_t* client, uint32_t deadline_ms);

/* Fills in `stats`, whose size field the caller has set. */
TELEMETRY_API telemetry_status_t telemetry_client_stats(telemetry_client_t* client,
                                                        telemetry_stats_t* stats);

/* The collection mode and, in `rule` (at most `rule_size` bytes with the NUL), the name of the rule
 * that decided. */
TELEMETRY_API telemetry_mode_t telemetry_client_mode(telemetry_client_t* client,
                                                     char* rule,
                                                     size_t rule_size);

/* "0.1.0"; static storage. */
TELEMETRY_API const char* telemetry_version(void);

#ifdef __cplusplus
}
#endif

#endif /* TELEMETRY_TELEMETRY_H */
