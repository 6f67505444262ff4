// SPDX-License-Identifier: Apache-2.0
// Taking transactions apart, with the messages of @hyperledger/fabric-protos.

import { common, gateway, ledger, msp, peer } from '@hyperledger/fabric-protos';

/** The parts of an envelope's payload that every transaction has. */
export function openEnvelope(bytes) {
    const envelope = common.Envelope.deserializeBinary(bytes);
    const payload = common.Payload.deserializeBinary(envelope.getPayload_asU8());
    const header = payload.getHeader();
    return {
        envelope,
        data: payload.getData_asU8(),
        channelHeader: common.ChannelHeader.deserializeBinary(header.getChannelHeader_asU8()),
        signatureHeader: common.SignatureHeader.deserializeBinary(header.getSignatureHeader_asU8()),
    };
}

/** The actions of an endorser transaction. */
export function openActions(data) {
    return peer.Transaction.deserializeBinary(data)
        .getActionsList()
        .map((action) => {
            const payload = peer.ChaincodeActionPayload.deserializeBinary(action.getPayload_asU8());
            const endorsed = payload.getAction();
            const response = peer.ProposalResponsePayload.deserializeBinary(
                endorsed.getProposalResponsePayload_asU8(),
            );
            const chaincodeAction = peer.ChaincodeAction.deserializeBinary(response.getExtension_asU8());
            return {
                endorsements: endorsed.getEndorsementsList(),
                responsePayload: endorsed.getProposalResponsePayload_asU8(),
                chaincodeAction,
                readWriteSet: ledger.rwset.TxReadWriteSet.deserializeBinary(
                    chaincodeAction.getResults_asU8(),
                ),
            };
        });
}

/** A serialized identity. */
export function openIdentity(bytes) {
    const identity = msp.SerializedIdentity.deserializeBinary(bytes);
    return { mspId: identity.getMspid(), pem: Buffer.from(identity.getIdBytes_asU8()) };
}

/** Who endorsed a transaction that the fabric-gateway client has prepared. */
export function endorsersOf(preparedBytes) {
    const prepared = gateway.PreparedTransaction.deserializeBinary(preparedBytes);
    const { data } = openEnvelope(prepared.getEnvelope().serializeBinary());
    return openActions(data).flatMap((action) =>
        action.endorsements.map((one) => openIdentity(one.getEndorser_asU8())),
    );
}
