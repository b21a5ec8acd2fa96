package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"strings"
	"time"
)

// memory is what the process of the parties holds.
type memory struct {
	// HeapBytes is what a garbage collection leaves: what something still refers to.
	HeapBytes uint64 `json:"heap_bytes"`
	// ResidentBytes also counts what the runtime has freed and keeps, and the stacks.
	ResidentBytes uint64 `json:"resident_bytes"`
	Goroutines    int    `json:"goroutines"`
}

// serveMemory serves [memory] at /memory, and the profiles of the process, on an address of this machine. It
// returns the address.
func serveMemory() (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/memory", func(w http.ResponseWriter, _ *http.Request) {
		now, err := measureMemory()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(now)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

func measureMemory() (memory, error) {
	// The first collection runs finalizers and empties the pools by half, the second frees what they held.
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	now := memory{HeapBytes: stats.HeapAlloc, Goroutines: runtime.NumGoroutine()}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return now, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &now.ResidentBytes); err != nil {
		return now, fmt.Errorf("/proc/self/status has no VmRSS: %w", err)
	}
	now.ResidentBytes *= 1024
	return now, nil
}
