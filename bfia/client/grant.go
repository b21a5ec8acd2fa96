package client

import (
	"context"
	"net/http"
	"net/url"

	"hutong/bfia"
)

// DatasetApply asks a party for a grant of a dataset (part 1, 4.3).
func (c *Client) DatasetApply(ctx context.Context, node string, application bfia.DatasetApplication) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathDatasetApply, application.AuditID, application, nil)
}

// DatasetConfirm reports to a party whether its request is approved, with the permit (part 1, 4.4).
func (c *Client) DatasetConfirm(ctx context.Context, node string, decision bfia.DatasetConfirmation) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathDatasetConfirm, decision.AuditID, decision, nil)
}

// DatasetTerminate reports to a party that a request has ended (part 1, 4.5).
func (c *Client) DatasetTerminate(ctx context.Context, node, auditID string) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathDatasetTerminate, auditID,
		bfia.DatasetRequestRef{AuditID: auditID}, nil)
}

// DatasetQuery returns the state of a request at a party (part 1, 4.6).
func (c *Client) DatasetQuery(ctx context.Context, node, auditID string) (bfia.RequestState, error) {
	var answer bfia.DatasetRequestStatus
	err := c.send(ctx, node, http.MethodGet,
		bfia.PathDatasetQuery+"?"+url.Values{"audit_id": {auditID}}.Encode(), auditID, nil, &answer)
	return answer.Status, err
}
