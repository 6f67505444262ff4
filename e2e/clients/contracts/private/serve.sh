#!/bin/sh
# Runs the contract as a service: the unmodified command line of fabric-shim takes by argument
# what `weft up` gives in the environment. Runs in the manifest's folder.
exec node_modules/.bin/fabric-chaincode-node server \
    --chaincode-address "$CHAINCODE_SERVER_ADDRESS" \
    --chaincode-id "$CHAINCODE_ID" \
    --module-path contracts/private
