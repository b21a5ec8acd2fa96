package metrics

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/store"
)

// Request counts a request to the API.
func (m *Metrics) Request(listener, method, route string, status int, code bfia.Code, took time.Duration) {
	if method != "GET" && method != "HEAD" && method != "POST" {
		method = other
	}
	m.httpRequests.add(1, listener, route, method, statusValue(status))
	m.httpSeconds.observe(took.Seconds(), listener, route)
	switch code {
	case bfia.CodeUnauthenticated:
		m.httpRefused.add(1, listener, "unauthenticated")
	case bfia.CodeForbidden:
		m.httpRefused.add(1, listener, "forbidden")
	case bfia.CodeTooMany:
		m.httpRefused.add(1, listener, "too_many")
	}
}

// statusValue returns the value of the label code for an HTTP status.
func statusValue(status int) string {
	text := strconv.Itoa(status)
	for _, known := range statusCodes {
		if known == text {
			return text
		}
	}
	if status >= 100 && status <= 599 {
		return text[:1] + "xx"
	}
	return other
}

// Command counts a command to a partner, or to the party itself.
func (m *Metrics) Command(node, path string, took time.Duration, err error) {
	path, _, _ = strings.Cut(path, "?")
	command, known := commands[path]
	if !known {
		command = other
	}
	outcome := "success"
	if err != nil {
		outcome = "unknown"
		var failed *client.Error
		if errors.As(err, &failed) {
			switch failed.Outcome {
			case client.NotDelivered:
				outcome = "not_delivered"
			case client.Refused:
				outcome = "refused"
			}
		}
	}
	m.partnerRequests.add(1, node, command, outcome)
	m.partnerSeconds.observe(took.Seconds(), node)
	if outcome == "success" || outcome == "refused" {
		m.partnerSuccess.set(float64(time.Now().UnixMilli())/1000, node)
	}
}

// Callback counts a report of a task's state, by how it arrived.
func (m *Metrics) Callback(source string, err error) {
	outcome := "accepted"
	if err != nil {
		outcome = "failed"
		if code := bfia.CodeOf(err); code != bfia.CodeInternal && code.HTTPStatus() < 500 {
			outcome = "refused"
		}
	}
	m.callbacks.add(1, source, outcome)
}

// Transfer counts a message exchanged with a partner.
func (m *Metrics) Transfer(partner string, sent bool, n int64) {
	direction := "received"
	if sent {
		direction = "sent"
	}
	m.transferBytes.add(float64(n), partner, direction)
	m.transferMessages.add(1, partner, direction)
}

// ForwardFailure counts a failed try to send a message to a partner.
func (m *Metrics) ForwardFailure(partner string) { m.forwardFailures.add(1, partner) }

// LimitedMessage counts a message of a partner beyond its rate, by what became of it.
func (m *Metrics) LimitedMessage(partner, outcome string) { m.limitedMessages.add(1, partner, outcome) }

// Removed counts what a sweep has removed.
func (m *Metrics) Removed(what string, n int64) { m.sweepRemoved.add(float64(n), what) }

// Storage counts an operation of the storage.
func (m *Metrics) Storage(operation string, took time.Duration, err error) {
	m.storageSeconds.observe(took.Seconds(), operation)
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	if code := bfia.CodeOf(err); code == bfia.CodeInternal || code == bfia.CodeUnavailable {
		m.storageErrors.add(1, operation)
	}
}

// Observer returns what counts the statements and the changes of a database.
func (m *Metrics) Observer() store.Observer {
	return store.Observer{
		Query: func(operation string, took time.Duration, failed bool) {
			m.databaseSeconds.observe(took.Seconds(), operation)
			if failed {
				m.databaseErrors.add(1, operation)
			}
		},
		JobEnded: func(job store.EndedJob) {
			side := string(job.Side)
			m.jobsEnded.add(1, side, strings.ToLower(string(job.Outcome)))
			m.jobSeconds.observe(job.Took.Seconds(), side)
			if job.Started {
				m.jobWaitSeconds.observe(job.Wait.Seconds(), side)
			}
		},
		PartEnded: func(state bfia.TaskState, failure *bfia.Failure) {
			if state == bfia.TaskSuccess {
				m.partsEnded.add(1, "success", "none")
				return
			}
			m.partsEnded.add(1, "failed", kindOf(failure))
		},
		AttemptStarted: func(cause *bfia.Failure) { m.taskAttempts.add(1, kindOf(cause)) },
	}
}

// kindOf returns the kind of a failure. Partners choose the kinds of theirs.
func kindOf(failure *bfia.Failure) string {
	if failure == nil {
		return string(bfia.FailedUnknown)
	}
	return string(failure.Kind)
}
