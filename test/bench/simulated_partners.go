package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// simulatedPartners are parties that speak the protocol and run nothing: they accept every job, and report
// that a task has succeeded as soon as it is started. They share one address; the header x-target-node-id
// names the one that a request is for.
type simulatedPartners struct {
	url       string
	scheduler string // the URL of the party that schedules
	node      string // its id
	isSilent  func(node string) bool
	server    *http.Server
	reports   sync.WaitGroup

	ctx    context.Context // ends with the server
	cancel context.CancelFunc
}

// startSimulatedPartners starts parties whose jobs a party schedules. Those that are silent accept
// connections and do not answer.
func startSimulatedPartners(scheduler, node string, isSilent func(string) bool) (*simulatedPartners, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &simulatedPartners{url: "http://" + listener.Addr().String(), scheduler: scheduler, node: node,
		isSilent: isSilent}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	accept := func(data any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { writeData(w, data) }
	}
	grant := bfia.Grant{Granted: true, State: bfia.JobReady}
	mux.HandleFunc("POST "+bfia.PathCreate, func(w http.ResponseWriter, r *http.Request) {
		accepted := bfia.JobAccepted{State: bfia.JobReady, Callbacks: true, Attempts: true,
			Reservations: true}
		if r.URL.Query().Has("reserve") {
			accepted.Grant = &grant
		}
		writeData(w, accepted)
	})
	mux.HandleFunc("POST "+bfia.PathReserve, accept(grant))
	for _, path := range []string{bfia.PathRelease, bfia.PathStart, bfia.PathStop, bfia.PathTaskStop} {
		mux.HandleFunc("POST "+path, accept(struct{}{}))
	}
	mux.HandleFunc("POST "+bfia.PathTaskPoll, accept(bfia.PollResult{Status: bfia.TaskSuccess}))
	mux.HandleFunc("POST "+bfia.PathTaskStart, p.startTask)
	p.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if isSilent(r.Header.Get("x-target-node-id")) {
				select {
				case <-r.Context().Done():
				case <-p.ctx.Done():
				}
				return
			}
			mux.ServeHTTP(w, r)
		})}
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

func (p *simulatedPartners) stop() {
	p.cancel()
	_ = p.server.Close()
	p.reports.Wait()
}

// startTask answers, and then reports the task's success.
func (p *simulatedPartners) startTask(w http.ResponseWriter, r *http.Request) {
	var task bfia.TaskRef
	if err := json.NewDecoder(r.Body).Decode(&task); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	writeData(w, struct{}{})
	from := r.Header.Get("x-target-node-id")
	p.reports.Go(func() {
		report := bfia.TaskReport{TaskID: task.TaskID, Status: bfia.TaskSuccess, Role: "host"}
		body, err := json.Marshal(report)
		if err != nil {
			return
		}
		for p.ctx.Err() == nil {
			h := http.Header{}
			bfia.SetHeaders(h, from, p.node, "", time.Now())
			var pairs []string
			for name := range h {
				pairs = append(pairs, name, h.Get(name))
			}
			url := p.scheduler + bfia.PathTaskCallback
			a, err := apiclient.Send(p.ctx, http.MethodPost, url, body, pairs...)
			if err == nil && a.Status == http.StatusOK {
				return
			}
			select {
			case <-p.ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
}

func writeData(w http.ResponseWriter, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"code":0,"msg":"success","data":%s}`, text)
}
