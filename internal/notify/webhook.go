package notify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Webhook is an endpoint that gets messages as signed JSON.
type Webhook struct {
	// URL may hold a secret, as those of chat services do. No error, log or answer contains it.
	URL string
	Key Key
	// Client sends the requests; see [NewClient].
	Client *http.Client
}

// Host returns the host of the webhook, for people.
func (w *Webhook) Host() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// The headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// ErrGone says that a receiver wants no more messages, so that another try is of no use.
var ErrGone = errors.New("the receiver answered 410 Gone: it wants no more messages")

const (
	// sendTimeout bounds one try to deliver a message.
	sendTimeout = 20 * time.Second
	// maxAnswer bounds what is kept of an answer, and maxRead what is read of it.
	maxAnswer = 200
	maxRead   = 8 << 10
)

// send posts a body and returns the receiver's answer. Every answer from 300 on is an error.
func (w *Webhook) send(ctx context.Context, id string, at time.Time, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("failed to make the request to %s", w.Host())
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", "hutong")
	request.Header.Set(headerID, id)
	request.Header.Set(headerTimestamp, strconv.FormatInt(at.Unix(), 10))
	request.Header.Set(headerSignature, w.Key.Sign(id, at, body))
	response, err := w.Client.Do(request)
	if err != nil {
		return "", fmt.Errorf("failed to send to %s: %w", w.Host(), w.cause(err))
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxRead))
	said := clip(w.withoutSecrets(string(text)))
	answer := strings.TrimSpace(fmt.Sprintf("HTTP %d %s", response.StatusCode, said))
	switch {
	case response.StatusCode == http.StatusGone:
		return answer, ErrGone
	case response.StatusCode >= http.StatusMultipleChoices:
		return answer, fmt.Errorf("%s answered %s", w.Host(), answer)
	}
	return answer, nil
}

// hidden replaces a secret in an answer.
const hidden = "***"

// Secrets returns the parts of a webhook's URL that prove the right to send to it, in all spellings, the
// longest first: path and query, and the user. Chat services put a secret into the path.
func Secrets(webhook string) []string {
	u, err := url.Parse(webhook)
	if err != nil || u.Host == "" {
		return []string{webhook}
	}
	found := []string{webhook, u.RequestURI(), u.Path, u.EscapedPath(), u.RawQuery}
	for _, segment := range strings.Split(u.Path, "/") {
		if len(segment) >= shortestSecret { // such as api and hooks, which are no secrets, is not
			found = append(found, segment, url.PathEscape(segment))
		}
	}
	for _, values := range u.Query() {
		for _, value := range values {
			found = append(found, value, url.QueryEscape(value))
		}
	}
	if password, set := u.User.Password(); set {
		found = append(found, password, url.QueryEscape(password))
	}
	found = slices.DeleteFunc(found, func(s string) bool { return len(strings.Trim(s, "/")) < minHidden })
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(found)
}

const (
	// shortestSecret is the length from which a part of a path counts as a secret of its own, and minHidden
	// the length from which a part of a URL is looked for at all: shorter ones would hide ordinary words.
	shortestSecret = 12
	minHidden      = 4
)

// withoutSecrets returns a receiver's answer without what it repeats of the webhook's URL. Many servers name
// the path in their errors; clients with the role viewer read answers.
func (w *Webhook) withoutSecrets(answer string) string {
	for _, secret := range Secrets(w.URL) {
		answer = strings.ReplaceAll(answer, secret, hidden)
		// As JSON and HTML write it.
		answer = strings.ReplaceAll(answer, strings.ReplaceAll(secret, "/", `\/`), hidden)
		answer = strings.ReplaceAll(answer, html.EscapeString(secret), hidden)
	}
	return answer
}

// cause returns the cause of a client's error without the secrets of the webhook. The client's own text
// quotes the whole URL, and the cause may quote what the receiver has sent, such as a Location that is not
// valid.
func (w *Webhook) cause(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	return &sendError{text: clip(w.withoutSecrets(err.Error())), err: err}
}

// sendError is an error whose text is fit to be shown. The error that it wraps is to be compared only.
type sendError struct {
	text string
	err  error
}

func (e *sendError) Error() string { return e.text }

func (e *sendError) Unwrap() error { return e.err }

// clip returns a text as one short line.
func clip(s string) string {
	line := []rune(strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " "))
	if len(line) > maxAnswer {
		return string(line[:maxAnswer]) + "…"
	}
	return string(line)
}

// NewClient returns a client for webhooks on a transport. It follows no redirects, since those would lead a
// signed message elsewhere.
func NewClient(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, Timeout: sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
