package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
	"hutong/transport/ptp"
	"hutong/transport/status"
	"hutong/transport/wire"
)

const (
	trafficMessage = 1 << 20
	trafficTopic   = "bench"
)

// measureTraffic measures what a message of 1 MB costs the transports of both parties, while a job runs whose
// containers sleep. It returns nanoseconds of processor time for each byte, at the sender and the receiver.
func measureTraffic(ctx context.Context, o options, pair []*federation) (send, receive float64, err error) {
	seconds := fmt.Sprint(int(time.Hour.Seconds())) // the job is stopped
	for _, f := range pair {
		if err := f.deployment.registerProgram(ctx, "sleep", 1, sleepProgram, seconds); err != nil {
			return 0, 0, err
		}
	}
	document, err := pair[0].documentWith("sleep", 1, pair[1].ownID())
	if err != nil {
		return 0, 0, err
	}
	api := pair[0].deployment.urls[pair[0].deployment.guest]
	var created bfia.JobCreated
	if err := apiclient.Call(ctx, http.MethodPost, api+bfia.PathPlatformCreateAll, document,
		&created); err != nil {
		return 0, 0, fmt.Errorf("failed to submit a job: %w", err)
	}
	jobID := created.JobID
	tokens := make([]string, len(pair))
	for i, f := range pair {
		if err := await(ctx, "a container of job "+jobID, func() (err error) {
			tokens[i], err = tokenOf(f.deployment.guest, jobID)
			return err
		}); err != nil {
			return 0, 0, err
		}
	}
	payload := bytes.Repeat([]byte("0123456789abcdef"), trafficMessage/16)
	push, err := proto.Marshal(&ptp.PushInbound{Topic: trafficTopic, Payload: payload})
	if err != nil {
		return 0, 0, err
	}
	pop, err := proto.Marshal(&ptp.PopInbound{Topic: trafficTopic, Timeout: 30_000})
	if err != nil {
		return 0, 0, err
	}
	exchange := func(n int) error {
		for range n {
			_, err := pair[0].channel(ctx, "push", jobID, tokens[0], pair[1].deployment.guest, push)
			if err != nil {
				return err
			}
			got, err := pair[1].channel(ctx, "pop", jobID, tokens[1], "", pop)
			if err != nil {
				return err
			}
			if len(got) < trafficMessage {
				return fmt.Errorf("a message of %d bytes came as %d", trafficMessage, len(got))
			}
		}
		return nil
	}
	if err := exchange(10); err != nil { // to warm up
		return 0, 0, fmt.Errorf("failed to exchange messages: %w", err)
	}
	sent, received := pair[0].cpuByKind()["transport"], pair[1].cpuByKind()["transport"]
	if err := exchange(o.messages); err != nil {
		return 0, 0, fmt.Errorf("failed to exchange messages: %w", err)
	}
	size := float64(o.messages * trafficMessage)
	send = float64(pair[0].cpuByKind()["transport"]-sent) / size
	receive = float64(pair[1].cpuByKind()["transport"]-received) / size
	fmt.Printf("a byte costs the sending transport %.2f ns, the receiving one %.2f ns\n", send, receive)
	stop := []byte(`{"job_id":"` + jobID + `"}`)
	return send, receive, apiclient.Call(ctx, http.MethodPost, api+bfia.PathPlatformStopAll, stop, nil)
}

// tokenOf returns the token of a process that runs as a container of a job at a party, from its environment.
func tokenOf(node, jobID string) (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		of := map[string]string{}
		for _, variable := range strings.Split(string(text), "\x00") {
			name, value, _ := strings.Cut(variable, "=")
			of[name] = value
		}
		if of["config.trace_id"] == jobID && of["config.node_id."+of["config.self_role"]] == node {
			return of["config.token"], nil
		}
	}
	return "", fmt.Errorf("no process of job %s runs at %s", jobID, node)
}

// channel calls the party's transport as a container of a job does.
func (f *federation) channel(ctx context.Context, call, jobID, token, target string, body []byte) ([]byte,
	error) {
	return channelClient{url: "http://" + f.listen[2], traceID: jobID, token: token,
		sessionID: bfia.SessionID(jobID), node: f.deployment.guest}.call(ctx, call, target, body)
}

// channelClient calls a transport as a container does.
type channelClient struct{ url, traceID, token, sessionID, node string }

// call pushes a message to another party, or pops one if target is "", and returns the payload of the answer.
func (c channelClient) call(ctx context.Context, call, target string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/interconn/chan/"+call,
		bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", wire.Protobuf.ContentType())
	for name, value := range map[string]string{wire.HeaderProvider: "BENCH", wire.HeaderTraceID: c.traceID,
		wire.HeaderToken: c.token, wire.HeaderSessionID: c.sessionID, wire.HeaderSourceNodeID: c.node,
		wire.HeaderTargetNodeID: target, wire.HeaderTopic: trafficTopic} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	text, err := answerOf(request)
	if err != nil {
		return nil, fmt.Errorf("failed to %s: %w", call, err)
	}
	out, err := wire.Protobuf.DecodeAnswer(text)
	if err != nil || out.Code != status.OK {
		return nil, fmt.Errorf("failed to %s: %.200q, %s: %w", call, text, out.Code, err)
	}
	return out.Payload, nil
}

// answerOf sends a request and returns the body of its answer, which must be 200.
func answerOf(request *http.Request) ([]byte, error) {
	answer, err := channelHTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer, HTTP %d: %w", answer.StatusCode, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %.200q", answer.StatusCode, text)
	}
	return text, nil
}

// channelHTTP keeps a connection for each of many clients at once.
var channelHTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * fairSessions}}
