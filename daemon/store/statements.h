// store/statements.h: the statements that every commit, lease and settlement runs, prepared once.
//
// Thread:  store thread. Must not outlive the connection.

#pragma once

#include "store/database.h"

namespace telemetryd::store {

struct Statements {
  Statement begin;
  Statement commit;
  Statement insert_row;
  Statement load_row;
  Statement delete_row;
  Statement scan_rows;
  Statement find_client;
  Statement put_client;
  Statement put_booked;
  Statement drop_client;
  Statement put_next_index;
  Statement delete_next_index;
  Statement insert_dead;
};

}  // namespace telemetryd::store
