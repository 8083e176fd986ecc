// server/client_certificate.h: TLS clients must show a certificate.
//
// The HTTP library only asks for one and leaves checking to the program; here the handshake itself
// fails without a valid one, so no request of a stranger is ever read.

#pragma once

struct MHD_Connection;

namespace telemetryd::server {

// Call when the connection opens, before its handshake. False when it cannot be demanded.
bool require_client_certificate(MHD_Connection* connection);

}  // namespace telemetryd::server
