package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// nameUser starts this program again with USER and HOME in its environment, if the machine has no entry for
// the user id and one of them is missing, as with docker run --user 12345. A library of Temporal's server
// asks for the current user, and Go keeps the first answer, which packages ask for before main runs.
func nameUser() error {
	if _, err := user.Current(); err == nil {
		return nil
	}
	environ, complete := os.Environ(), true
	for _, v := range []struct{ name, value string }{
		{"USER", "uid-" + strconv.Itoa(os.Getuid())}, {"HOME", "/"}} {
		if os.Getenv(v.name) == "" {
			environ, complete = append(environ, v.name+"="+v.value), false
		}
	}
	if complete { // the failure has another cause
		return nil
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, environ) // returns only if it fails
	}
	return fmt.Errorf("failed to start again with USER and HOME in the environment: %w", err)
}
