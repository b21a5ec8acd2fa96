// Package notify writes messages about what happens at a party, and sends them to webhooks and by e-mail.
//
//   - event.go holds what happened, and receiver.go who wants to know it;
//   - text.go and catalogue.go write the messages in English and Chinese;
//   - signature.go signs requests to webhooks in the format of Standard Webhooks;
//   - webhook.go and mail.go send one message; notifier.go chooses between them.
//
// No message holds a row of data, a parameter of a job or a line of a log.
package notify
