package client

import (
	"context"
	"net/http"
	"net/url"

	"hutong/bfia"
)

// ContractApply asks a node for a contract (part 1, 3.1), and returns the contract's id.
func (c *Client) ContractApply(ctx context.Context, node string,
	application bfia.ContractApplication) (string, error) {
	var answer bfia.ContractRef
	err := c.send(ctx, node, http.MethodPost, bfia.PathContractApply, "contract", application, &answer)
	return answer.ContractID, err
}

// ContractConfirm reports to a node whether its application is accepted (part 1, 3.2).
func (c *Client) ContractConfirm(ctx context.Context, node string,
	confirmation bfia.ContractConfirmation) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathContractConfirm, "contract", confirmation, nil)
}

// ContractTerminate reports to a node that the contract has ended (part 1, 3.3).
func (c *Client) ContractTerminate(ctx context.Context, node, contractID string) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathContractTerminate, "contract",
		bfia.ContractRef{ContractID: contractID}, nil)
}

// NodeUpdate reports changes of this party to a node (part 1, 3.4).
func (c *Client) NodeUpdate(ctx context.Context, node string, update bfia.ContractApplication) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathNodeUpdate, "contract", update, nil)
}

// ContractQuery returns the state of a contract at a node (part 1, 3.5).
func (c *Client) ContractQuery(ctx context.Context, node, contractID string) (bfia.ContractState, error) {
	var answer bfia.ContractStatus
	err := c.send(ctx, node, http.MethodGet,
		bfia.PathContractQuery+"?"+url.Values{"contract_id": {contractID}}.Encode(), "contract", nil, &answer)
	return answer.Status, err
}
