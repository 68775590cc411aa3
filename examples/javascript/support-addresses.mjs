// The support addresses of a company, kept in Amazon Connect: publish one, merge two, split them again.

import {
  AssociateEmailAddressAliasCommand,
  CreateEmailAddressCommand,
  DisassociateEmailAddressAliasCommand,
} from "@aws-sdk/client-connect";

export class SupportAddresses {
  constructor(connect, instanceId) {
    this.connect = connect;
    this.instanceId = instanceId;
  }

  // The id of the address.
  async publish(address) {
    const made = await this.connect.send(
      new CreateEmailAddressCommand({ InstanceId: this.instanceId, EmailAddress: address }),
    );
    return made.EmailAddressId;
  }

  // Mail for the alias reaches the primary's inbox as well.
  async merge(aliasId, primaryId) {
    await this.connect.send(new AssociateEmailAddressAliasCommand(this.pair(aliasId, primaryId)));
  }

  // Mail for the alias reaches its own inbox alone.
  async split(aliasId, primaryId) {
    await this.connect.send(new DisassociateEmailAddressAliasCommand(this.pair(aliasId, primaryId)));
  }

  pair(aliasId, primaryId) {
    return {
      InstanceId: this.instanceId,
      EmailAddressId: primaryId,
      AliasConfiguration: { EmailAddressId: aliasId },
    };
  }
}
