package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/spf13/cobra"
)

// pprofFlag adds a hidden flag for developers, who measure with it.
func pprofFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "pprof", "", "HOST:PORT at which to serve net/http/pprof")
	_ = cmd.Flags().MarkHidden("pprof") // fails only for an unknown flag
}

// servePprof serves profiles of this process at address until the process ends. An empty address disables it.
func servePprof(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--pprof: failed to listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	return nil
}
