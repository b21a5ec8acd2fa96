package main

// An image FROM scratch has neither time zones nor certificate authorities. Those of the system take
// precedence over these, so a machine's own authorities count there, and these don't.
import (
	_ "time/tzdata" // the zones of the IANA database, of this version of Go

	_ "golang.org/x/crypto/x509roots/fallback" // the authorities of Mozilla, pinned by go.sum
)
